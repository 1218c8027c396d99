package scenario

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/openova-io/bp-relay/loadtest/internal/scenario/unit"
)

// decoder fills a scenario from YAML nodes. The library's own decoder stops at
// the first unknown key, reports no column and knows no units.
type decoder struct {
	s        *Scenario
	problems []Problem
	nowhere  bool // the nodes have no position in a file
}

func (d *decoder) problem(n *yaml.Node, field, format string, args ...any) {
	p := Problem{Field: field, Text: fmt.Sprintf(format, args...)}
	if !d.nowhere {
		p.Line, p.Column = n.Line, n.Column
	}
	d.problems = append(d.problems, p)
}

// value reads a node into v, whose struct tag gives the unit.
func (d *decoder) value(v reflect.Value, n *yaml.Node, field, in string) {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
		return // as if the key were absent
	}
	at := place{}
	if !d.nowhere {
		at = place{n.Line, n.Column}
	}
	d.s.given[field] = at
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		d.value(v.Elem(), n, field, in)
	case reflect.Struct:
		d.section(v, n, field)
	case reflect.Slice:
		d.list(v, n, field)
	case reflect.Map:
		d.table(v, n, field, in)
	default:
		if n.Kind != yaml.ScalarNode {
			d.problem(n, field, "want one value, not a list or keys")
			return
		}
		if err := scalar(v, n, in); err != nil {
			d.problem(n, field, "%v", err)
		}
	}
}

// pairs calls f for each key of a mapping; a repeated key is a problem.
func (d *decoder) pairs(n *yaml.Node, field string, f func(key, value *yaml.Node, path string)) {
	if n.Kind != yaml.MappingNode {
		d.problem(n, field, "want keys, \"key: value\"")
		return
	}
	lines := make(map[string]int)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, path := n.Content[i], n.Content[i].Value
		if field != "" {
			path = field + "." + path
		}
		if key.Kind != yaml.ScalarNode {
			d.problem(key, field, "a key must be a word")
			continue
		}
		if first, twice := lines[key.Value]; twice {
			d.problem(key, path, "is given twice, first in line %d", first)
			continue
		}
		lines[key.Value] = key.Line
		f(key, n.Content[i+1], path)
	}
}

func (d *decoder) section(v reflect.Value, n *yaml.Node, field string) {
	d.pairs(n, field, func(key, value *yaml.Node, path string) {
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && f.Tag.Get("yaml") == key.Value && key.Value != "-" {
				d.value(v.Field(i), value, path, f.Tag.Get("unit"))
				return
			}
		}
		d.problem(key, path, "is not a key; %s", suggest(v.Type(), key.Value))
	})
}

func (d *decoder) list(v reflect.Value, n *yaml.Node, field string) {
	if n.Kind != yaml.SequenceNode {
		d.problem(n, field, "want a list, [a, b] or a line \"- a\" for each")
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		d.value(v.Index(i), item, field+"["+strconv.Itoa(i)+"]", "")
	}
}

func (d *decoder) table(v reflect.Value, n *yaml.Node, field, in string) {
	v.Set(reflect.MakeMap(v.Type()))
	d.pairs(n, field, func(key, value *yaml.Node, path string) {
		item := reflect.New(v.Type().Elem()).Elem()
		d.value(item, value, path, in)
		v.SetMapIndex(reflect.ValueOf(key.Value), item)
	})
}

// scalar reads one value. Every error quotes its text.
func scalar(v reflect.Value, n *yaml.Node, in string) error {
	text := n.Value
	if v.Type() == reflect.TypeFor[time.Duration]() {
		t, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%q: want a duration, such as 30s, 5m or 1h30m", text)
		}
		v.SetInt(int64(t))
		return nil
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		if n.ShortTag() != "!!bool" {
			return fmt.Errorf("%q: want true or false", text)
		}
		v.SetBool(text[0] == 't' || text[0] == 'T')
	case reflect.Int, reflect.Float64:
		return number(v, text, in)
	case reflect.Uint64:
		u, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return fmt.Errorf("%q: want a whole number, 0 or greater", text)
		}
		v.SetUint(u)
	default:
		return fmt.Errorf("%s cannot be read from a file", v.Type())
	}
	return nil
}

func number(v reflect.Value, text, in string) error {
	read := unit.Number
	switch in {
	case "bit/s":
		read = unit.Bitrate
	case "share":
		read = unit.Share
	}
	f, err := read(text)
	if err != nil {
		return err
	}
	if v.Kind() == reflect.Float64 {
		v.SetFloat(f)
		return nil
	}
	if whole := math.Round(f); math.Abs(f-whole) > 1e-6 || math.Abs(f) > 1<<53 {
		return fmt.Errorf("%q: want a whole number", text)
	}
	v.SetInt(int64(math.Round(f)))
	return nil
}
