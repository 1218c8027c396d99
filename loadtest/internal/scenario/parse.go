package scenario

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// MaxFile bounds the length of a scenario file, in bytes.
const MaxFile = 1 << 20

// ReadFile reads the scenario in a file, see [Parse].
func ReadFile(path string) (*Scenario, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open scenario: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	return Parse(path, f)
}

// Parse reads a scenario, fills in the defaults and checks it. name is that of the
// file: errors have it, and without its extension it is the scenario's default
// name. An invalid scenario is an [*InvalidError] with every problem and its line;
// text that is not YAML is another error.
func Parse(name string, r io.Reader) (*Scenario, error) {
	text, err := io.ReadAll(io.LimitReader(r, MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read scenario %s: %w", name, err)
	}
	if len(text) > MaxFile {
		return nil, fmt.Errorf("scenario %s is longer than %d bytes: check that it is a scenario", name, MaxFile)
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc, more yaml.Node
	if err := dec.Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("scenario %s: %w", name, err)
	}
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("scenario %s: a file has one scenario; put the second document (---) into another", name)
	}

	s := &Scenario{given: make(map[string]place)}
	d := decoder{s: s}
	if len(doc.Content) > 0 {
		d.value(reflect.ValueOf(s).Elem(), doc.Content[0], "", "")
	}
	if len(d.problems) > 0 {
		return nil, &InvalidError{Name: name, Problems: d.problems}
	}
	if s.Name == "" {
		s.Name = strings.TrimSuffix(filepath.Base(name), filepath.Ext(name))
	}
	s.Defaults()
	if err := s.Validate(); err != nil {
		if invalid, ok := errors.AsType[*InvalidError](err); ok {
			invalid.Name = name
		}
		return nil, err
	}
	return s, nil
}

// Set sets one key, in a file's notation: Set("media.video.codec", "vp9"),
// Set("paths", "[direct, turn-udp]"). It creates missing sections. A list can only
// be set as a whole; setting a section replaces it; null removes a key. Call
// Defaults and Validate after the last Set.
func (s *Scenario) Set(field, value string) error {
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(value), &doc); err != nil {
		return fmt.Errorf("set %s: %w", field, err)
	}
	if len(doc.Content) == 0 {
		return fmt.Errorf("set %s: there is no value", field)
	}
	// The value is wrapped into a section for each part of the path and read as
	// a file of that one key.
	node := doc.Content[0]
	parts := strings.Split(field, ".")
	for _, part := range slices.Backward(parts) {
		node = &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{{Kind: yaml.ScalarNode, Tag: "!!str", Value: part}, node}}
	}
	if s.given == nil {
		s.given = make(map[string]place)
	}
	if node := doc.Content[0]; node.Kind == yaml.MappingNode || node.ShortTag() == "!!null" {
		s.forget(field)
	}
	d := decoder{s: s, nowhere: true}
	d.value(reflect.ValueOf(s).Elem(), node, "", "")
	if len(d.problems) > 0 {
		return &InvalidError{Problems: d.problems}
	}
	return nil
}

// forget removes a key with everything in it.
func (s *Scenario) forget(field string) {
	v := reflect.ValueOf(s).Elem()
	for part := range strings.SplitSeq(field, ".") {
		for v.Kind() == reflect.Pointer {
			if v.IsNil() {
				return
			}
			v = v.Elem()
		}
		if v.Kind() != reflect.Struct {
			return
		}
		i := slices.IndexFunc(reflect.VisibleFields(v.Type()), func(f reflect.StructField) bool { return f.IsExported() && f.Tag.Get("yaml") == part })
		if i < 0 {
			return // the decoder reports it
		}
		v = v.FieldByIndex(reflect.VisibleFields(v.Type())[i].Index)
	}
	v.SetZero()
	maps.DeleteFunc(s.given, func(key string, _ place) bool { return key == field || strings.HasPrefix(key, field+".") })
}
