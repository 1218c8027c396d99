package result

import (
	"math"
	"reflect"
)

// Add adds b to *a, field by field: integers, histograms and maps of counts
// exactly, floats to a millionth, so that the sum does not depend on the order.
// Strings stay. A field added to the model needs no code here.
func Add[T any](a *T, b T) {
	addValue(reflect.ValueOf(a).Elem(), reflect.ValueOf(b))
}

func addValue(a, b reflect.Value) {
	switch a.Kind() {
	case reflect.Int, reflect.Int64:
		a.SetInt(a.Int() + b.Int())
	case reflect.Float64:
		a.SetFloat(sum(a.Float(), b.Float()))
	case reflect.String:
		if a.Len() == 0 {
			a.Set(b)
		}
	case reflect.Struct:
		for i := range a.NumField() {
			addValue(a.Field(i), b.Field(i))
		}
	case reflect.Map:
		addMap(a, b)
	case reflect.Pointer:
		addPointer(a, b)
	default:
		panic("report: no rule to add a " + a.Type().String()) // an error in the model; tests add every field
	}
}

func addMap(a, b reflect.Value) {
	if b.Len() == 0 {
		return
	}
	out := reflect.MakeMap(a.Type())
	for _, m := range []reflect.Value{a, b} {
		for it := m.MapRange(); it.Next(); {
			n := reflect.New(a.Type().Elem()).Elem()
			n.SetInt(it.Value().Int())
			if have := out.MapIndex(it.Key()); have.IsValid() {
				n.SetInt(n.Int() + have.Int())
			}
			out.SetMapIndex(it.Key(), n)
		}
	}
	a.Set(out)
}

// addPointer copies what a points to before it adds, so that the caller's parts do
// not change.
func addPointer(a, b reflect.Value) {
	if b.IsNil() {
		return
	}
	if h, ok := reflect.TypeAssert[*Hist](b); ok {
		out := h.Clone()
		if !a.IsNil() {
			out.Add(a.Interface().(*Hist))
		}
		a.Set(reflect.ValueOf(out))
		return
	}
	out := reflect.New(a.Type().Elem())
	for _, p := range []reflect.Value{a, b} {
		if !p.IsNil() {
			addValue(out.Elem(), p.Elem())
		}
	}
	a.Set(out)
}

const millionth = 1e6

// sum adds two numbers to a millionth: exact and in any order up to 9e9.
func sum(a, b float64) float64 {
	return (math.Round(a*millionth) + math.Round(b*millionth)) / millionth
}

// Add adds another path's counts and distributions; the name stays.
func (p *Path) Add(o Path) { Add(p, o) }
