package scenario

import (
	"reflect"
	"strings"
)

// suggest returns what an unknown key may mean: the most similar key of its
// section, or else the same key of another section.
func suggest(section reflect.Type, wrong string) string {
	best, near := "", max(2, len(wrong)/3)+1
	var names []string
	for field := range section.Fields() {
		name := field.Tag.Get("yaml")
		if name == "" || name == "-" {
			continue
		}
		names = append(names, name)
		if d := distance(strings.ToLower(wrong), name); d < near {
			best, near = name, d
		}
	}
	if best != "" {
		return "did you mean " + best + "?"
	}
	for _, k := range Keys() {
		if strings.HasSuffix(k, "."+wrong) {
			return "did you mean " + k + "?"
		}
	}
	return "there are " + strings.Join(names, ", ")
}

// Keys returns the paths of all keys that a scenario may have, in the model's
// order: "rooms", "rooms.count". The items of a list are named "load.stages[]"; the
// keys of a map are free.
func Keys() []string {
	var out []string
	var walk func(t reflect.Type, prefix string)
	walk = func(t reflect.Type, prefix string) {
		for field := range t.Fields() {
			name := field.Tag.Get("yaml")
			if name == "" || name == "-" {
				continue
			}
			path, ft := prefix+name, field.Type
			out = append(out, path)
			if ft.Kind() == reflect.Slice && ft.Elem().Kind() == reflect.Struct {
				path, ft = path+"[]", ft.Elem()
			}
			if ft.Kind() == reflect.Pointer {
				ft = ft.Elem()
			}
			if ft.Kind() == reflect.Struct {
				walk(ft, path+".")
			}
		}
	}
	walk(reflect.TypeFor[Scenario](), "")
	return out
}

// distance is the number of letters to add, drop or change (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
