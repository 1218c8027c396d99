package rpc

import (
	"context"
	"errors"
	"strings"
	"time"

	"buf.build/go/protovalidate"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"

	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/auth"
)

// authenticate returns the caller that Enter let in; a call that came past Enter
// goes through it now.
func (g *Gate) authenticate(ctx context.Context, method string) (context.Context, auth.Principal, error) {
	if who := auth.From(ctx); who.Org != "" {
		return ctx, who, nil
	}
	ctx, refusal := g.enter(ctx, method, metadata.ValueFromIncomingContext(ctx, "authorization"))
	if refusal != nil {
		return ctx, auth.Principal{}, refusal
	}
	return ctx, auth.From(ctx), nil
}

// bearer returns the token of the authorization headers: RFC 6750, section 2.1.
func bearer(headers []string) (string, *apierr.Error) {
	if len(headers) == 0 {
		return "", apierr.New(codes.Unauthenticated, errorsv1.Reason_REASON_TOKEN_MISSING,
			`no token; send the header "authorization: Bearer <token>" (in development: relay-dev token)`)
	}
	scheme, token, _ := strings.Cut(headers[0], " ")
	if len(headers) > 1 || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", apierr.New(codes.Unauthenticated, errorsv1.Reason_REASON_TOKEN_INVALID,
			`the authorization header is not "Bearer <token>"`)
	}
	return token, nil
}

// TokenError maps an error of auth.Verifier to what callers see.
func TokenError(err error) *apierr.Error {
	switch {
	case errors.Is(err, auth.ErrExpired):
		return apierr.New(codes.Unauthenticated, errorsv1.Reason_REASON_TOKEN_EXPIRED,
			"the token has expired; get a new one from the issuer").Because(err)
	case errors.Is(err, auth.ErrIssuer):
		return apierr.New(codes.Unavailable, errorsv1.Reason_REASON_ISSUER_UNAVAILABLE,
			"the token cannot be verified because its issuer does not answer; try again later").WithRetry(time.Second).Because(err)
	}
	return apierr.New(codes.Unauthenticated, errorsv1.Reason_REASON_TOKEN_INVALID,
		"the token is invalid; check its issuer, audience and organisation").Because(err)
}

// admit checks the permission, then the organisation, then that no text has a
// NUL, then the request's rules.
// No answer before that reveals anything about a resource, not even whether it
// exists.
func (g *Gate) admit(_ context.Context, who auth.Principal, method string, req any) error {
	perm := g.Policy.Method(method)
	if !g.Policy.Allows(who, perm) {
		name := auth.PermissionName(perm)
		return apierr.New(codes.PermissionDenied, errorsv1.Reason_REASON_PERMISSION_MISSING,
			"none of your roles has the permission "+name+"; ask for a role that has it", "permission", name)
	}
	m, ok := req.(proto.Message)
	if !ok {
		return nil
	}
	if err := ownOrganisation(who, m.ProtoReflect()); err != nil {
		return err
	}
	if field := nul(m.ProtoReflect()); field != "" {
		return apierr.Field(field, "the character NUL (U+0000) is not allowed in any text")
	}
	return g.rules(m)
}

// ownOrganisation refuses a resource name of another organisation in any top-level
// field of the request.
func ownOrganisation(who auth.Principal, m protoreflect.Message) error {
	own := "orgs/" + who.Org
	var foreign *apierr.Error
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if fd.Kind() != protoreflect.StringKind || fd.IsList() || fd.IsMap() || freeText(fd.Name()) {
			return true
		}
		s := v.String()
		if strings.HasPrefix(s, "orgs/") && s != own && !strings.HasPrefix(s, own+"/") {
			foreign = apierr.New(codes.PermissionDenied, errorsv1.Reason_REASON_OTHER_ORGANISATION,
				string(fd.Name())+" names a resource outside your organisation; your names begin with "+own+"/",
				"field", string(fd.Name()), "organisation", who.Org)
			return false
		}
		return true
	})
	if foreign != nil {
		return foreign
	}
	return nil
}

// freeText reports whether a field holds free text, never a resource name.
func freeText(field protoreflect.Name) bool {
	switch field {
	case "identity", "display_name", "metadata", "reason":
		return true
	}
	return false
}

// rules checks the request's protovalidate rules.
func (g *Gate) rules(m proto.Message) error {
	err := g.validate.Validate(m)
	if err == nil {
		return nil
	}
	var broken *protovalidate.ValidationError
	if !errors.As(err, &broken) || len(broken.Violations) == 0 {
		return err
	}
	first := broken.Violations[0].Proto
	field := protovalidate.FieldPathString(first.GetField())
	e := apierr.New(codes.InvalidArgument, errorsv1.Reason_REASON_FIELD_INVALID, field+": "+says(first.GetMessage()), "field", field)
	for _, v := range broken.Violations {
		e = e.WithField(protovalidate.FieldPathString(v.Proto.GetField()), says(v.Proto.GetMessage()))
	}
	return e
}

// says returns the text of a violation; a custom rule may have none.
func says(message string) string {
	if message == "" {
		return "breaks its rule"
	}
	return message
}
