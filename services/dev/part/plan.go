package part

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// goCaches is about what Go's module and build caches grow by, in bytes, if
// nothing of the third-party parts is in them.
const goCaches = 5 * gigabyte

// Plan says what is missing and about what it takes, or, on [StageDone], what
// it took.
type Plan struct {
	Missing []Part
	// Time is about how long all of it takes on this machine. For third-party
	// parts, Go's caches are taken to be empty.
	Time time.Duration
	// Cache is the folder that the parts go to, and Disk about how many bytes
	// they need there and, for Debian packages, in the system.
	Cache string
	Disk  int64
	// GoCaches is about how many bytes go to Go's own caches, Free how many
	// are free in Cache's file system (0: unknown).
	GoCaches, Free int64
	// Found are the parts that are there already.
	Found []Name
}

// plan estimates. Compiling goes as fast as there are cores, beside it packages
// are installed; the slower of the two decides.
func (o Obtainer) plan(ctx context.Context, parts []Part, missing []*job) *Plan {
	p := &Plan{Cache: o.Cache}
	lacking := map[Name]bool{}
	var compile, install time.Duration
	for _, j := range missing {
		lacking[j.part.Name] = true
		if b, ok := j.maker.(*program); ok {
			j.part.Cost.Time = b.cost(ctx, j.part.Cost.Time)
		}
		p.Missing = append(p.Missing, j.part)
		p.Disk += j.part.Cost.Disk
		if j.compiles() {
			compile += j.part.Cost.Time * 2 / time.Duration(min(runtime.NumCPU(), 8))
			if j.part.Cost.Time > time.Minute { // not a recompiled program
				p.GoCaches = goCaches
			}
		} else {
			install += j.part.Cost.Time
		}
	}
	p.Time = max(compile, install)
	for _, part := range parts {
		if !lacking[part.Name] {
			p.Found = append(p.Found, part.Name)
		}
	}
	var st unix.Statfs_t
	if err := unix.Statfs(o.Cache, &st); err == nil {
		p.Free = int64(st.Bavail) * st.Bsize
	}
	return p
}

// measured is the plan with what the parts really need on disk.
func (p *Plan) measured(made []*job) *Plan {
	done := *p
	done.Disk = 0
	for _, j := range made {
		switch m := j.maker.(type) {
		case *cached:
			done.Disk += size(m.final)
		case *program:
			done.Disk += size(filepath.Join(m.root(), m.p.Path))
		default:
			done.Disk += j.part.Cost.Disk
		}
	}
	return &done
}

// size returns how many bytes of disk the files below path use.
func size(path string) (bytes int64) {
	_ = filepath.WalkDir(path, func(_ string, d fs.DirEntry, err error) error {
		if err == nil { // what cannot be read is not counted
			if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
				bytes += info.Size()
			}
		}
		return nil
	})
	return bytes
}

// String says the plan on a line for the whole and one for each part.
func (p *Plan) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "Missing: %d of %d. Getting them takes about %s with %d cores", len(p.Missing), len(p.Missing)+len(p.Found), about(p.Time), runtime.NumCPU())
	if p.Disk > 0 {
		fmt.Fprintf(&s, " and %s of disk in %s", bytesOf(p.Disk), p.Cache)
	}
	if p.GoCaches > 0 {
		fmt.Fprintf(&s, ", and up to %s in Go's module and build caches", bytesOf(p.GoCaches))
	}
	if p.Free > 0 {
		fmt.Fprintf(&s, " (%s free)", bytesOf(p.Free))
	}
	s.WriteString(".\n")
	for _, part := range p.Missing {
		name := string(part.Name)
		if part.Version != "" {
			name += " " + part.Version
		}
		fmt.Fprintf(&s, "  %-18s %s, about %s, %s\n", name, part.how(), about(part.Cost.Time), bytesOf(part.Cost.Disk))
	}
	if len(p.Found) > 0 {
		fmt.Fprintf(&s, "  There already: %s.\n", joined(p.Found))
	}
	s.WriteString("Downloads, compiler and package installs run side by side. Ctrl-C stops; the next run continues.\n")
	return s.String()
}

// how says in a few words how a part is obtained.
func (p Part) how() string {
	switch {
	case p.Go != nil:
		return "Go modules, compiled"
	case p.Program != nil:
		return "this repository, compiled"
	case p.RootFS != nil:
		return "Debian packages in a folder of their own"
	}
	return "Debian packages, installed"
}

// about rounds a duration to what an estimate is worth.
func about(d time.Duration) string {
	switch {
	case d <= 0:
		return "some time"
	case d < time.Minute:
		return fmt.Sprintf("%d s", (d+4*time.Second)/(5*time.Second)*5)
	}
	return fmt.Sprintf("%d min", (d+59*time.Second)/time.Minute)
}

func bytesOf(n int64) string {
	if n < gigabyte {
		return fmt.Sprintf("%d MB", (n+megabyte/2)/megabyte)
	}
	return fmt.Sprintf("%.1f GB", float64(n)/gigabyte)
}

func joined(names []Name) string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = string(n)
	}
	return strings.Join(out, ", ")
}
