package scenario

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/openova-io/bp-relay/loadtest/internal/scenario/unit"
)

// YAML returns the scenario as Parse reads it, with its defaults and without empty
// values. A scenario has no secrets, only names of variables; user info of a URL,
// which Validate refuses, is left out.
func (s *Scenario) YAML() ([]byte, error) {
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(s.node(true)); err != nil {
		return nil, fmt.Errorf("write scenario: %w", err)
	}
	return b.Bytes(), nil
}

// JSON returns the same document in JSON, for a report: bit rates and shares are
// numbers, durations are in Go's notation. Since JSON is YAML, Parse reads it too.
func (s *Scenario) JSON() ([]byte, error) {
	var tree any
	if err := s.node(false).Decode(&tree); err != nil {
		return nil, fmt.Errorf("write scenario: %w", err)
	}
	b, err := json.Marshal(tree)
	if err != nil {
		return nil, fmt.Errorf("write scenario: %w", err)
	}
	return b, nil
}

// node builds the document. people adds units to bit rates.
func (s *Scenario) node(people bool) *yaml.Node {
	e := encoder{people: people}
	return e.section(reflect.ValueOf(*s), "")
}

type encoder struct{ people bool }

// keptAtZero are the keys whose 0 is not the default.
func keptAtZero(field string) bool {
	return slices.Contains([]string{"witnesses", "load.warmup", "rooms.publishers", "rooms.subscribers"}, field)
}

func (e encoder) section(v reflect.Value, field string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name := f.Tag.Get("yaml")
		if name == "" || name == "-" {
			continue
		}
		path := name
		if field != "" {
			path = field + "." + name
		}
		if v.Field(i).IsZero() && !keptAtZero(path) {
			continue
		}
		if item := e.value(v.Field(i), path, f.Tag.Get("unit")); item != nil {
			n.Content = append(n.Content, text("!!str", name), item)
		}
	}
	return n
}

// value returns nil for an empty value.
func (e encoder) value(v reflect.Value, field, in string) *yaml.Node {
	switch v.Kind() {
	case reflect.Pointer:
		return e.value(v.Elem(), field, in)
	case reflect.Struct:
		return e.section(v, field)
	case reflect.Slice:
		if v.Len() == 0 {
			return nil
		}
		n := &yaml.Node{Kind: yaml.SequenceNode}
		for i := range v.Len() {
			n.Content = append(n.Content, e.value(v.Index(i), field, in))
		}
		return n
	case reflect.Map:
		if v.Len() == 0 {
			return nil
		}
		n := &yaml.Node{Kind: yaml.MappingNode}
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return bytes.Compare([]byte(a.String()), []byte(b.String())) })
		for _, k := range keys {
			n.Content = append(n.Content, text("!!str", k.String()), e.value(v.MapIndex(k), field, in))
		}
		return n
	}
	return e.scalar(v, in)
}

func (e encoder) scalar(v reflect.Value, in string) *yaml.Node {
	if d, ok := reflect.TypeAssert[time.Duration](v); ok {
		return text("!!str", d.String())
	}
	switch v.Kind() {
	case reflect.Bool:
		return text("!!bool", strconv.FormatBool(v.Bool()))
	case reflect.Int:
		if in == "bit/s" && e.people {
			return text("!!str", unit.FormatBitrate(int(v.Int())))
		}
		return text("!!int", strconv.FormatInt(v.Int(), 10))
	case reflect.Uint64:
		return text("!!int", strconv.FormatUint(v.Uint(), 10))
	case reflect.Float64:
		// Never write 1e+06, which YAML 1.2's core schema and Parse read, but few
		// people do.
		return text("!!float", strconv.FormatFloat(v.Float(), 'f', -1, 64))
	}
	return text("!!str", public(v.String()))
}

// text returns a scalar; the encoder quotes it if it would be read as another type.
func text(tag, value string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value}
	if tag == "!!float" {
		n.Tag = "" // "5" is a float here, and needs no tag in the text
	}
	return n
}

// public removes the user info from a URL.
func public(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.User == nil || u.Host == "" {
		return s
	}
	u.User = nil
	return u.String()
}
