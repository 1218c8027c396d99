package resource

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

// Encode returns the JSON document of body, which was decoded from old and then
// edited. What old has and body's type does not know stays as it is: a newer
// release wrote it, and an older one, which runs beside it during an upgrade,
// must not drop it. That holds for objects in objects and in maps; in lists as
// long as no element was removed. old may be empty.
func Encode(old []byte, body any) ([]byte, error) {
	edited, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("encode document: %w", err)
	}
	if len(old) == 0 {
		return edited, nil
	}
	return keep(old, edited, reflect.TypeOf(body))
}

// keep adds to the JSON value edited, made from a value of type t, what old has
// beyond t.
func keep(old, edited json.RawMessage, t reflect.Type) (json.RawMessage, error) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Struct:
		if isObject(old) && isObject(edited) {
			known := fields(t)
			return keepMembers(old, edited, func(name string) (reflect.Type, bool) { f, ok := known[name]; return f, ok })
		}
	case reflect.Map:
		if isObject(old) && isObject(edited) {
			return keepMembers(old, edited, func(string) (reflect.Type, bool) { return t.Elem(), true })
		}
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() != reflect.Uint8 {
			return keepElements(old, edited, t.Elem())
		}
	}
	return edited, nil
}

// keepMembers does keep for an object. known returns the type of a member, and
// false if body's type has no such member.
func keepMembers(old, edited json.RawMessage, known func(name string) (reflect.Type, bool)) (json.RawMessage, error) {
	var was, is map[string]json.RawMessage
	if err := json.Unmarshal(old, &was); err != nil {
		return nil, fmt.Errorf("decode document: %w", err)
	}
	if err := json.Unmarshal(edited, &is); err != nil {
		return nil, fmt.Errorf("decode document: %w", err)
	}
	changed := false
	for name, value := range was {
		t, ok := known(name)
		if !ok {
			is[name], changed = value, true
			continue
		}
		now, ok := is[name]
		if !ok {
			continue // removed, or at its zero value
		}
		merged, err := keep(value, now, t)
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(merged, now) {
			is[name], changed = merged, true
		}
	}
	if !changed {
		return edited, nil // in the order of the type's fields
	}
	return json.Marshal(is)
}

// keepElements does keep for a list, by position.
func keepElements(old, edited json.RawMessage, elem reflect.Type) (json.RawMessage, error) {
	var was, is []json.RawMessage
	if json.Unmarshal(old, &was) != nil || json.Unmarshal(edited, &is) != nil || len(is) < len(was) {
		return edited, nil //nolint:nilerr // not a list: the type has its own form in JSON
	}
	changed := false
	for i := range was {
		merged, err := keep(was[i], is[i], elem)
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(merged, is[i]) {
			is[i], changed = merged, true
		}
	}
	if !changed {
		return edited, nil
	}
	return json.Marshal(is)
}

// isObject reports whether a JSON value is an object; a type with its own
// MarshalJSON, such as time.Time, may be something else.
func isObject(v json.RawMessage) bool { return bytes.HasPrefix(bytes.TrimSpace(v), []byte("{")) }

// fields returns the types of a struct's members by their names in JSON.
func fields(t reflect.Type) map[string]reflect.Type {
	all := make(map[string]reflect.Type)
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || !f.IsExported():
		case f.Anonymous && name == "": // its fields are visible ones
		case name == "":
			all[f.Name] = f.Type
		default:
			all[name] = f.Type
		}
	}
	return all
}
