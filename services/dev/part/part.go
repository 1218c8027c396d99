package part

import (
	"fmt"
	"time"
)

// Name is the short name of a part, as progress lines, logs and folders have it.
type Name string

// The parts that can be obtained.
const (
	SeaweedFS Name = "seaweedfs"
	// WeakSeaweedFS is SeaweedFS 3.39, which carries out unsigned requests: for the
	// tests that it is refused.
	WeakSeaweedFS Name = "seaweedfs-3.39"
	LiveKit       Name = "livekit"
	Guacd         Name = "guacd"
	Stunner       Name = "stunner"
	FFmpeg        Name = "ffmpeg"
	SSHD          Name = "sshd"
	Postgres      Name = "postgres"
	Redis         Name = "redis"
)

// Part says what a part is and how it is obtained. Exactly one of Go, Program,
// RootFS and Debian is set.
type Part struct {
	Name Name
	// Version is what people call the version: "3.39".
	Version string
	Cost    Cost

	Go      *GoModule
	Program *Program
	RootFS  *RootFS
	Debian  *Debian
}

// Cost is about what it takes to obtain a part, measured on two cores with
// nothing cached. The zero value means unknown.
type Cost struct {
	Time time.Duration
	Disk int64 // bytes of the result, without Go's own caches
}

// GoModule is built from the pins of a Go module of its own in deploy/local.
type GoModule struct {
	// Dir is the module's folder below deploy/local.
	Dir string
	// Binaries maps the name of each binary to its main package.
	Binaries map[string]string
}

// Program is a program of this repository. The go command decides whether it
// is up to date.
type Program struct {
	// Package is its main package: "./services/cmd/relay".
	Package string
	// Path is where the binary goes. Both are relative to the repository.
	Path string
	// Static builds it without cgo.
	Static bool
}

// RootFS is a root folder made by debootstrap, for a server of another Debian
// release than this machine's.
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

const (
	megabyte = 1_000_000
	gigabyte = 1000 * megabyte
)

// All returns every third-party part in the order in which they are best
// obtained: what downloads fast and compiles long comes first.
func All() []Part {
	return []Part{
		{Name: SeaweedFS, Version: "4.53", Cost: Cost{8 * time.Minute, 143 * megabyte}, Go: &GoModule{
			Dir:      "seaweedfs",
			Binaries: map[string]string{"weed": "github.com/seaweedfs/seaweedfs/weed"},
		}},
		{Name: LiveKit, Version: "1.13.5", Cost: Cost{2 * time.Minute, 69 * megabyte}, Go: &GoModule{
			Dir:      "livekit",
			Binaries: map[string]string{"livekit-server": "github.com/livekit/livekit-server/cmd/server"},
		}},
		{Name: Guacd, Version: "1.3.0", Cost: Cost{3 * time.Minute, 511 * megabyte}, RootFS: &RootFS{List: "guacd/packages.txt"}},
		{Name: Stunner, Version: "1.2.1", Cost: Cost{time.Minute, 80 * megabyte}, Go: &GoModule{
			Dir: "stunner",
			Binaries: map[string]string{
				"stunnerd": "github.com/l7mp/stunner/cmd/stunnerd",
				"turncat":  "github.com/l7mp/stunner/cmd/turncat",
			},
		}},
		{Name: WeakSeaweedFS, Version: "3.39", Cost: Cost{2 * time.Minute, 59 * megabyte}, Go: &GoModule{
			Dir:      "seaweedfs-3.39",
			Binaries: map[string]string{"weed-3.39": "github.com/seaweedfs/seaweedfs/weed"},
		}},
		{Name: FFmpeg, Version: "Debian", Cost: Cost{time.Minute, 500 * megabyte}, Debian: &Debian{
			Packages: []string{"ffmpeg"},
			Binaries: map[string][]string{"ffmpeg": bin("ffmpeg"), "ffprobe": bin("ffprobe")},
		}},
		{Name: SSHD, Version: "Debian", Cost: Cost{10 * time.Second, 10 * megabyte}, Debian: &Debian{
			Packages: []string{"openssh-server"},
			Binaries: map[string][]string{"sshd": bin("sshd")},
		}},
		{Name: Postgres, Version: "Debian", Cost: Cost{30 * time.Second, 200 * megabyte}, Debian: &Debian{
			Packages: []string{"postgresql"},
			Binaries: map[string][]string{
				"initdb":   {"/usr/lib/postgresql/1[0-9]/bin/initdb", "/usr/lib/postgresql/*/bin/initdb", "/usr/local/bin/initdb"},
				"postgres": {"/usr/lib/postgresql/1[0-9]/bin/postgres", "/usr/lib/postgresql/*/bin/postgres", "/usr/local/bin/postgres"},
			},
		}},
		{Name: Redis, Version: "Debian", Cost: Cost{10 * time.Second, 10 * megabyte}, Debian: &Debian{
			Packages: []string{"redis-server"},
			Binaries: map[string][]string{"redis-server": bin("redis-server")},
		}},
	}
}

// bin is where a Debian package may have put a program.
func bin(name string) []string {
	return []string{"/usr/sbin/" + name, "/usr/bin/" + name, "/usr/local/sbin/" + name, "/usr/local/bin/" + name}
}

// debootstrap makes root folders; it is needed only if one is missing.
func debootstrap() Part {
	return Part{Name: "debootstrap", Version: "Debian", Debian: &Debian{
		Packages: []string{"debootstrap"},
		Binaries: map[string][]string{"debootstrap": bin("debootstrap")},
	}}
}

// Named returns the named parts in the order in which they are best obtained.
func Named(names ...Name) ([]Part, error) {
	want := map[Name]bool{}
	for _, n := range names {
		want[n] = true
	}
	var out []Part
	for _, p := range All() {
		if want[p.Name] {
			out = append(out, p)
			delete(want, p.Name)
		}
	}
	for n := range want {
		return nil, fmt.Errorf("part: no part is called %q", n)
	}
	return out, nil
}
