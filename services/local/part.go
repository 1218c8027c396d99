package local

import "fmt"

// Name is the short name of a part, as progress lines, logs and folders have it.
type Name string

// The parts that can be obtained.
const (
	PartSeaweedFS Name = "seaweedfs"
	PartLiveKit   Name = "livekit"
	PartGuacd     Name = "guacd"
	PartStunner   Name = "stunner"
	PartFFmpeg    Name = "ffmpeg"
	PartSSHD      Name = "sshd"
	PartPostgres  Name = "postgres"
	PartRedis     Name = "redis"
)

// Part says what a part is and how it is obtained. Exactly one of Go, RootFS
// and Debian is set.
type Part struct {
	Name Name
	// Version is what people call the version: "3.39".
	Version string

	Go     *GoModule
	RootFS *RootFS
	Debian *Debian
}

// GoModule is built from the pins of a Go module of its own in deploy/local.
type GoModule struct {
	// Dir is the module's folder below deploy/local.
	Dir string
	// Binaries maps the name of each binary to its main package.
	Binaries map[string]string
}

// RootFS is a root folder made by debootstrap: how a server of another Debian
// release is run beside this one's.
type RootFS struct {
	// List is the file below deploy/local with the suite and the packages.
	List string
}

// Debian is found on the machine, or installed by apt-get.
type Debian struct {
	Packages []string
	// Binaries maps each name to the glob patterns of absolute paths it may
	// be at; the last match of the first pattern that has one is taken.
	Binaries map[string][]string
}

// AllParts returns every part in the order in which they are best obtained.
func AllParts() []Part {
	return []Part{
		{Name: PartSeaweedFS, Version: "3.39", Go: &GoModule{
			Dir:      "seaweedfs",
			Binaries: map[string]string{"weed": "github.com/seaweedfs/seaweedfs/weed"},
		}},
		{Name: PartLiveKit, Version: "1.11.0", Go: &GoModule{
			Dir:      "livekit",
			Binaries: map[string]string{"livekit-server": "github.com/livekit/livekit-server/cmd/server"},
		}},
		{Name: PartGuacd, Version: "1.3.0", RootFS: &RootFS{List: "guacd/packages.txt"}},
		{Name: PartStunner, Version: "1.2.1", Go: &GoModule{
			Dir: "stunner",
			Binaries: map[string]string{
				"stunnerd": "github.com/l7mp/stunner/cmd/stunnerd",
				"turncat":  "github.com/l7mp/stunner/cmd/turncat",
			},
		}},
		{Name: PartFFmpeg, Version: "Debian", Debian: &Debian{
			Packages: []string{"ffmpeg"},
			Binaries: map[string][]string{"ffmpeg": bin("ffmpeg"), "ffprobe": bin("ffprobe")},
		}},
		{Name: PartSSHD, Version: "Debian", Debian: &Debian{
			Packages: []string{"openssh-server"},
			Binaries: map[string][]string{"sshd": bin("sshd")},
		}},
		{Name: PartPostgres, Version: "Debian", Debian: &Debian{
			Packages: []string{"postgresql"},
			Binaries: map[string][]string{
				"initdb":   {"/usr/lib/postgresql/1[0-9]/bin/initdb", "/usr/lib/postgresql/*/bin/initdb", "/usr/local/bin/initdb"},
				"postgres": {"/usr/lib/postgresql/1[0-9]/bin/postgres", "/usr/lib/postgresql/*/bin/postgres", "/usr/local/bin/postgres"},
			},
		}},
		{Name: PartRedis, Version: "Debian", Debian: &Debian{
			Packages: []string{"redis-server"},
			Binaries: map[string][]string{"redis-server": bin("redis-server")},
		}},
	}
}

// bin is where a Debian package may have put a program.
func bin(name string) []string {
	return []string{"/usr/sbin/" + name, "/usr/bin/" + name, "/usr/local/sbin/" + name, "/usr/local/bin/" + name}
}

// debootstrap makes root folders; it is looked for only when one is missing.
func debootstrap() Part {
	return Part{Name: "debootstrap", Version: "Debian", Debian: &Debian{
		Packages: []string{"debootstrap"},
		Binaries: map[string][]string{"debootstrap": bin("debootstrap")},
	}}
}

// Parts returns the named parts in the order in which they are best obtained.
func Parts(names ...Name) ([]Part, error) {
	want := map[Name]bool{}
	for _, n := range names {
		want[n] = true
	}
	var out []Part
	for _, p := range AllParts() {
		if want[p.Name] {
			out = append(out, p)
			delete(want, p.Name)
		}
	}
	for n := range want {
		return nil, fmt.Errorf("local: no part is called %q", n)
	}
	return out, nil
}
