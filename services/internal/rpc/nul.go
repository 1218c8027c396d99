package rpc

import (
	"strconv"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// nul returns the path of a text in the message, or in one that it holds, that
// has a NUL, as protovalidate writes paths; "" if none has. Neither database can
// store one, and to C programs a text ends there.
func nul(m protoreflect.Message) (path string) {
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		name := string(fd.Name())
		switch {
		case fd.IsMap():
			v.Map().Range(func(k protoreflect.MapKey, item protoreflect.Value) bool {
				at := name + "[" + strconv.Quote(k.String()) + "]"
				if path = nulIn(fd.MapKey(), k.Value(), at); path == "" {
					path = nulIn(fd.MapValue(), item, at)
				}
				return path == ""
			})
		case fd.IsList():
			for i := range v.List().Len() {
				if path = nulIn(fd, v.List().Get(i), name+"["+strconv.Itoa(i)+"]"); path != "" {
					break
				}
			}
		default:
			path = nulIn(fd, v, name)
		}
		return path == ""
	})
	return path
}

// nulIn is nul for one value at the path.
func nulIn(fd protoreflect.FieldDescriptor, v protoreflect.Value, path string) string {
	switch fd.Kind() {
	case protoreflect.StringKind:
		if strings.IndexByte(v.String(), 0) >= 0 {
			return path
		}
	case protoreflect.MessageKind, protoreflect.GroupKind:
		if inner := nul(v.Message()); inner != "" {
			return path + "." + inner
		}
	}
	return ""
}
