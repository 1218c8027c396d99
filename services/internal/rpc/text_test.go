package rpc_test

import (
	"testing"
	"time"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	optionsv1 "github.com/openova-io/bp-relay/gen/relay/options/v1"

	"github.com/openova-io/bp-relay/services/internal/apierr"
)

// methods calls do with each method of the API.
func methods(t *testing.T, do func(short string, m protoreflect.MethodDescriptor)) {
	t.Helper()
	for _, service := range serviceNames() {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
		require.NoError(t, err)
		all := d.(protoreflect.ServiceDescriptor).Methods()
		for i := range all.Len() {
			do(string(d.Name())+"/"+string(all.Get(i).Name()), all.Get(i))
		}
	}
}

// eachText calls do with each text field that a message may hold, its path and a
// function that sets it.
func eachText(m protoreflect.Message, path string, do func(path string, fd protoreflect.FieldDescriptor, set func(string))) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		at := path + string(fd.Name())
		switch {
		case fd.IsMap(), fd.Kind() == protoreflect.BytesKind: // the API's requests have no map
		case fd.Kind() == protoreflect.StringKind && fd.IsList():
			do(at+"[0]", fd, func(s string) { m.Mutable(fd).List().Append(protoreflect.ValueOfString(s)) })
		case fd.Kind() == protoreflect.StringKind:
			do(at, fd, func(s string) { m.Set(fd, protoreflect.ValueOfString(s)) })
		case fd.Kind() == protoreflect.MessageKind && fd.IsList():
			eachText(m.Mutable(fd).List().AppendMutable().Message(), at+"[0].", do)
			m.Clear(fd)
		case fd.Kind() == protoreflect.MessageKind:
			eachText(m.NewField(fd).Message(), at+".", func(path string, inner protoreflect.FieldDescriptor, set func(string)) {
				do(path, inner, func(s string) { nest(m, fd, path[len(at)+1:], s) })
			})
		}
	}
}

// nest sets the text at the path in the message field fd of m.
func nest(m protoreflect.Message, fd protoreflect.FieldDescriptor, path, s string) {
	eachText(m.Mutable(fd).Message(), "", func(at string, _ protoreflect.FieldDescriptor, set func(string)) {
		if at == path {
			set(s)
		}
	})
}

// No text of any request of any RPC may have a NUL; the answer names the field.
func TestNoNUL(t *testing.T) {
	b := newBench(t)
	fields := 0
	methods(t, func(short string, m protoreflect.MethodDescriptor) {
		var paths []string
		eachText(dynamicpb.NewMessage(m.Input()), "", func(path string, _ protoreflect.FieldDescriptor, _ func(string)) { paths = append(paths, path) })
		for _, want := range paths {
			req := dynamicpb.NewMessage(m.Input())
			eachText(req, "", func(path string, _ protoreflect.FieldDescriptor, set func(string)) {
				if path == want {
					set("a\x00b")
				}
			})
			err := b.call(b.as(t, time.Minute, "relay-admin"), m, req)
			require.Equal(t, "FIELD_INVALID", apierr.ReasonOf(err), "%s %s: %v", short, want, err)
			require.ErrorContains(t, err, want+": the character NUL", short)
			fields++
		}
	})
	require.Greater(t, fields, 80, "fields were found")
}

// unshown are the texts of requests that people are not shown, or that are the
// application's own documents.
func unshown() map[protoreflect.Name]bool {
	return map[protoreflect.Name]bool{"metadata": true, "password": true, "private_key": true, "host_key": true}
}

// Each text that a caller may choose has a rule that takes no bidi control and no
// invisible character: a pattern, a predefined form, or plain_text.
func TestTextsThatPeopleReadArePlain(t *testing.T) {
	plain := 0
	methods(t, func(short string, m protoreflect.MethodDescriptor) {
		eachText(dynamicpb.NewMessage(m.Input()), "", func(path string, fd protoreflect.FieldDescriptor, _ func(string)) {
			behaviour, _ := proto.GetExtension(fd.Options(), annotations.E_FieldBehavior).([]annotations.FieldBehavior)
			for _, is := range behaviour {
				if is == annotations.FieldBehavior_OUTPUT_ONLY || is == annotations.FieldBehavior_IDENTIFIER {
					return
				}
			}
			if unshown()[fd.Name()] {
				return
			}
			rules, _ := proto.GetExtension(fd.Options(), validate.E_Field).(*validate.FieldRules)
			text := rules.GetString()
			is := func(x protoreflect.ExtensionType) bool { return text != nil && proto.HasExtension(text, x) }
			forms := 0
			if text != nil {
				proto.RangeExtensions(text, func(x protoreflect.ExtensionType, _ any) bool {
					forms++
					return x != nil
				})
			}
			require.True(t, forms > 0 || text.GetPattern() != "" || text.GetUuid(), "%s %s takes any text: give it the rule plain_text", short, path)
			if is(optionsv1.E_PlainText) || is(optionsv1.E_AccountName) {
				plain++
			}
		})
	})
	require.GreaterOrEqual(t, plain, 10)
}
