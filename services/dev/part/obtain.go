package part

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// ErrNoDeploy reports that no folder from the given one upwards holds the workspace.
var ErrNoDeploy = errors.New("part: not inside the bp-relay repository (no go.work with deploy/local beside it): run it in a clone, where the pins of its parts are")

// Tools says where obtained things are: a binary's name to its absolute path,
// and "guacd-root" to guacd's root folder.
type Tools map[string]string

// Obtainer gets parts onto the machine.
type Obtainer struct {
	// Deploy is the folder deploy/local of the repository; "" finds it from
	// the working directory upwards.
	Deploy string
	// Cache is the folder that keeps what was made; "" means
	// $XDG_CACHE_HOME/bp-relay.
	Cache    string
	Progress Progress
}

// FindDeploy returns the absolute path of deploy/local in the workspace that
// dir is in.
func FindDeploy(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("find the repository: %w", err)
	}
	for {
		deploy := filepath.Join(dir, "deploy", "local")
		if exists(filepath.Join(dir, "go.work")) && exists(deploy) {
			return deploy, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", ErrNoDeploy
		}
		dir = up
	}
}

// CacheDir returns $XDG_CACHE_HOME/bp-relay, or ~/.cache/bp-relay.
func CacheDir() (string, error) {
	d, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder: %w: set XDG_CACHE_HOME", err)
	}
	return filepath.Join(d, "bp-relay"), nil
}

// Obtain makes sure that each part is on the machine and says where. It may be
// called again at any time: what is there is only looked at. Two calls, also
// of two processes, may run at once: one makes a part and the other waits for
// it. After an interruption the parts that were finished are kept. The error
// is a *[BuildError], a *[MissingError], or says that ctx ended.
func (o Obtainer) Obtain(ctx context.Context, parts []Part) (Tools, error) {
	var err error
	if o.Deploy == "" {
		if o.Deploy, err = FindDeploy("."); err != nil {
			return nil, err
		}
	}
	if o.Cache == "" {
		if o.Cache, err = CacheDir(); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(filepath.Join(o.Cache, "logs"), 0o755); err != nil {
		return nil, fmt.Errorf("make the cache folder: %w", err)
	}
	o.Progress = oneAtATime(o.Progress)
	began := time.Now()
	jobs, missing, err := o.look(ctx, parts)
	if err != nil {
		return nil, err
	}
	var plan *Plan
	if len(missing) > 0 {
		if err := possible(missing); err != nil {
			return nil, err
		}
		plan = o.plan(ctx, parts, missing)
		o.Progress.Report(Event{Stage: StagePlanned, Total: len(parts), Plan: plan})
	}
	tools, err := o.run(ctx, jobs)
	if err != nil {
		return nil, err
	}
	if plan != nil {
		o.Progress.Report(Event{Stage: StageDone, Total: len(parts), Took: time.Since(began), Plan: plan.measured(missing)})
	}
	return tools, nil
}

// oneAtATime serialises the events of the lanes.
func oneAtATime(p Progress) Progress {
	if p == nil {
		return nil
	}
	var mu sync.Mutex
	return func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		p(e)
	}
}

// look makes a job of each part and says which are missing.
func (o Obtainer) look(ctx context.Context, parts []Part) (jobs, missing []*job, err error) {
	for i, p := range parts {
		m, err := o.maker(p)
		if err != nil {
			return nil, nil, err
		}
		j := &job{o: o, part: p, maker: m, index: i + 1, total: len(parts)}
		if j.tools, j.found, err = m.find(ctx); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", p.Name, err)
		}
		jobs = append(jobs, j)
		if !j.found {
			missing = append(missing, j)
		}
	}
	return jobs, missing, nil
}

func (o Obtainer) maker(p Part) (maker, error) {
	switch {
	case p.Debian != nil:
		return &debian{o: o, part: p}, nil
	case p.Go != nil:
		return &cached{o: o, part: p, source: &goBuild{o: o, m: *p.Go}}, nil
	case p.RootFS != nil:
		return &cached{o: o, part: p, source: &rootFS{o: o, part: p}}, nil
	case p.Program != nil:
		return &program{o: o, p: *p.Program}, nil
	}
	return nil, fmt.Errorf("part: %s has no source", p.Name)
}

// possible reports what this user cannot obtain before minutes go into
// building the rest.
func possible(missing []*job) error {
	if os.Geteuid() == 0 {
		return nil
	}
	lacking := &MissingError{}
	var names []string
	for _, j := range missing {
		switch {
		case j.part.Debian != nil:
			names = append(names, string(j.part.Name))
			lacking.Packages = append(lacking.Packages, j.part.Debian.Packages...)
		case j.part.RootFS != nil:
			return fmt.Errorf("%s: %w", j.part.Name, errNeedsRoot)
		}
	}
	if len(names) == 0 {
		return nil
	}
	lacking.Part = Name(strings.Join(names, ", "))
	return lacking
}

// run does the jobs in three lanes: one downloads Go modules ahead of the
// compiler, one compiles, and one installs Debian packages. Each takes its
// parts in the order of the list, so that two processes cannot wait for each
// other's locks.
func (o Obtainer) run(ctx context.Context, jobs []*job) (Tools, error) {
	defer func() {
		for _, j := range jobs {
			j.close()
		}
	}()
	group, ctx := errgroup.WithContext(ctx)
	fetched := make(chan *job, len(jobs))
	group.Go(func() error {
		defer close(fetched)
		for _, j := range jobs {
			if !j.compiles() {
				continue
			}
			if err := j.fetch(ctx); err != nil {
				return err
			}
			fetched <- j
		}
		return nil
	})
	group.Go(func() error {
		for j := range fetched {
			if err := j.make(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	group.Go(func() error {
		for _, j := range jobs {
			if j.compiles() {
				continue
			}
			if err := j.fetch(ctx); err != nil {
				return err
			}
			if err := j.make(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		return nil, err
	}
	tools := Tools{}
	for _, j := range jobs {
		maps.Copy(tools, j.tools)
	}
	return tools, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
