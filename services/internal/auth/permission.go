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

// DefaultRoles are the roles that work without any configuration.
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
		},
		"relay-operator": {
			optionsv1.Permission_PERMISSION_CONNECTIONS_READ, optionsv1.Permission_PERMISSION_SESSIONS_OPEN,
		},
		"relay-auditor": {
			optionsv1.Permission_PERMISSION_ROOMS_READ, optionsv1.Permission_PERMISSION_RECORDINGS_READ, optionsv1.Permission_PERMISSION_RECORDINGS_PLAY,
			optionsv1.Permission_PERMISSION_CONNECTIONS_READ, optionsv1.Permission_PERMISSION_SESSIONS_READ,
			optionsv1.Permission_PERMISSION_EVIDENCE_READ, optionsv1.Permission_PERMISSION_EVIDENCE_EXPORT,
		},
	}
}

// servicePermissions are what our own services may ask of each other.
func servicePermissions() []optionsv1.Permission {
	return []optionsv1.Permission{
		optionsv1.Permission_PERMISSION_ROOMS_READ,
		optionsv1.Permission_PERMISSION_ROOMS_WRITE,
		optionsv1.Permission_PERMISSION_ICE_SERVERS_MINT,
	}
}

// PermissionName is the permission as configuration and errors spell it:
// "rooms.read".
func PermissionName(p optionsv1.Permission) string {
	s := strings.ToLower(strings.TrimPrefix(p.String(), "PERMISSION_"))
	i := strings.LastIndexByte(s, '_')
	if i < 0 {
		return s
	}
	return s[:i] + "." + s[i+1:]
}

// ParsePermission reads what PermissionName writes.
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

// Policy says which methods ask for which permission, and who has it. It is
// safe for concurrent use.
type Policy struct {
	methods map[string]optionsv1.Permission // full method name
	grants  map[string]map[optionsv1.Permission]bool
	service map[optionsv1.Permission]bool
}

// NewPolicy reads the permission that each method of the given services
// declares. A method without one is an error: nothing is open by omission.
func NewPolicy(roles Roles, services ...string) (*Policy, error) {
	p := &Policy{
		methods: make(map[string]optionsv1.Permission),
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
			p.methods["/"+name+"/"+string(m.Name())] = perm
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

// Method returns the permission that a method asks for; UNSPECIFIED for one
// that is unknown, which nobody may call.
func (p *Policy) Method(full string) optionsv1.Permission { return p.methods[full] }

// Methods returns every method that the policy knows, sorted.
func (p *Policy) Methods() []string { return slices.Sorted(maps.Keys(p.methods)) }

// Allows says whether the principal has the permission.
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
