package auth

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	optionsv1 "github.com/openova-io/bp-relay/gen/relay/options/v1"
)

// Roles maps a role to the permissions it gives.
type Roles map[string][]optionsv1.Permission

// DefaultRoles returns the roles of an installation that configures none.
func DefaultRoles() Roles {
	all := make([]optionsv1.Permission, 0, len(optionsv1.Permission_name))
	for n := range optionsv1.Permission_name {
		if n != 0 {
			all = append(all, optionsv1.Permission(n))
		}
	}
	slices.Sort(all)
	return Roles{
		"relay-admin": all,
		"relay-backend": {
			optionsv1.Permission_PERMISSION_ROOMS_READ, optionsv1.Permission_PERMISSION_ROOMS_WRITE, optionsv1.Permission_PERMISSION_ROOMS_JOIN,
			optionsv1.Permission_PERMISSION_RECORDINGS_READ, optionsv1.Permission_PERMISSION_RECORDINGS_WRITE,
			optionsv1.Permission_PERMISSION_GATEWAYS_READ, optionsv1.Permission_PERMISSION_ICE_SERVERS_MINT,
			optionsv1.Permission_PERMISSION_EVENTS_READ,
		},
		"relay-operator": {
			optionsv1.Permission_PERMISSION_CONNECTIONS_READ, optionsv1.Permission_PERMISSION_SESSIONS_OPEN,
		},
		"relay-auditor": {
			optionsv1.Permission_PERMISSION_ROOMS_READ, optionsv1.Permission_PERMISSION_RECORDINGS_READ, optionsv1.Permission_PERMISSION_RECORDINGS_PLAY,
			optionsv1.Permission_PERMISSION_CONNECTIONS_READ, optionsv1.Permission_PERMISSION_SESSIONS_READ,
			optionsv1.Permission_PERMISSION_EVIDENCE_READ, optionsv1.Permission_PERMISSION_EVIDENCE_EXPORT,
			optionsv1.Permission_PERMISSION_EVENTS_READ, optionsv1.Permission_PERMISSION_REVOCATIONS_READ,
		},
	}
}

// servicePermissions are the permissions of calls between relay services.
func servicePermissions() []optionsv1.Permission {
	return []optionsv1.Permission{
		optionsv1.Permission_PERMISSION_ROOMS_READ,
		optionsv1.Permission_PERMISSION_ROOMS_WRITE,
		optionsv1.Permission_PERMISSION_ICE_SERVERS_MINT,
	}
}

// PermissionName returns the permission as in configuration and errors:
// "rooms.read".
func PermissionName(p optionsv1.Permission) string {
	s := strings.ToLower(strings.TrimPrefix(p.String(), "PERMISSION_"))
	i := strings.LastIndexByte(s, '_')
	if i < 0 {
		return s
	}
	return s[:i] + "." + s[i+1:]
}

// ParsePermission parses what PermissionName returns.
func ParsePermission(name string) (optionsv1.Permission, error) {
	var known []string
	for n := range optionsv1.Permission_name {
		p := optionsv1.Permission(n)
		if n == 0 {
			continue
		}
		if PermissionName(p) == name {
			return p, nil
		}
		known = append(known, PermissionName(p))
	}
	slices.Sort(known)
	return 0, fmt.Errorf("auth: no permission %q; known are %s", name, strings.Join(known, ", "))
}

// Policy holds the permission that each method requires and the permissions that
// each role has. It is safe for concurrent use.
type Policy struct {
	methods map[string]optionsv1.Permission // full method name
	streams map[string]bool                 // full names of methods that stream
	grants  map[string]map[optionsv1.Permission]bool
	service map[optionsv1.Permission]bool
}

// NewPolicy reads the permissions that the methods of the given services declare.
// A method without one is an error: no method is open by omission.
func NewPolicy(roles Roles, services ...string) (*Policy, error) {
	p := &Policy{
		methods: make(map[string]optionsv1.Permission),
		streams: make(map[string]bool),
		grants:  make(map[string]map[optionsv1.Permission]bool, len(roles)),
		service: set(servicePermissions()),
	}
	for role, perms := range maps.All(roles) {
		p.grants[role] = set(perms)
	}
	for _, name := range services {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
		if err != nil {
			return nil, fmt.Errorf("auth: service %s: %w", name, err)
		}
		sd, ok := d.(protoreflect.ServiceDescriptor)
		if !ok {
			return nil, fmt.Errorf("auth: %s is not a service", name)
		}
		for i := range sd.Methods().Len() {
			m := sd.Methods().Get(i)
			perm, _ := proto.GetExtension(m.Options(), optionsv1.E_Permission).(optionsv1.Permission)
			if perm == optionsv1.Permission_PERMISSION_UNSPECIFIED {
				return nil, fmt.Errorf("auth: %s declares no permission", m.FullName())
			}
			full := "/" + name + "/" + string(m.Name())
			p.methods[full] = perm
			if m.IsStreamingServer() || m.IsStreamingClient() {
				p.streams[full] = true
			}
		}
	}
	return p, nil
}

func set(perms []optionsv1.Permission) map[optionsv1.Permission]bool {
	out := make(map[optionsv1.Permission]bool, len(perms))
	for _, p := range perms {
		out[p] = true
	}
	return out
}

// Method returns the permission that a method requires. It is UNSPECIFIED, which
// no caller has, for an unknown method.
func (p *Policy) Method(full string) optionsv1.Permission { return p.methods[full] }

// Streams reports whether the method sends or takes a stream of messages.
func (p *Policy) Streams(full string) bool { return p.streams[full] }

// Methods returns the full names of all methods of the policy, sorted.
func (p *Policy) Methods() []string { return slices.Sorted(maps.Keys(p.methods)) }

// Allows reports whether the principal has the permission.
func (p *Policy) Allows(who Principal, perm optionsv1.Permission) bool {
	if perm == optionsv1.Permission_PERMISSION_UNSPECIFIED {
		return false
	}
	if who.Service {
		return p.service[perm]
	}
	for _, role := range who.Roles {
		if p.grants[role][perm] {
			return true
		}
	}
	return false
}
