package probe

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/procfs"
)

// throttle is what CPU quotas did to a cgroup.
type throttle struct {
	times int64
	time  time.Duration
}

// readThrottle adds up the cpu.stat files of this process's cgroup and of its
// ancestors: a quota on any of them stops this process, and each file covers
// its own quota only.
func readThrottle() (throttle, error) {
	dirs, err := cpuGroups()
	if err != nil {
		return throttle{}, err
	}
	var out throttle
	for _, dir := range dirs {
		raw, err := os.ReadFile(filepath.Join(dir, "cpu.stat"))
		if errors.Is(err, fs.ErrNotExist) {
			continue // the root of cgroup v1, or no cpu controller here
		}
		if err != nil {
			return throttle{}, fmt.Errorf("probe: %w", err)
		}
		t := parseThrottle(string(raw))
		out.times += t.times
		out.time += t.time
	}
	return out, nil
}

// parseThrottle reads cpu.stat: v2 has throttled_usec, v1 throttled_time in
// nanoseconds (Documentation/admin-guide/cgroup-v2.rst, scheduler/sched-bwc.rst).
func parseThrottle(text string) (t throttle) {
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), " ")
		n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
		if err != nil || n < 0 {
			continue
		}
		switch key {
		case "nr_throttled":
			t.times = n
		case "throttled_usec":
			t.time = time.Duration(n) * time.Microsecond
		case "throttled_time":
			t.time = time.Duration(n)
		}
	}
	return t
}

// quota is the number of processors that the tightest CPU quota on this
// process's cgroups allows; 0: no quota.
func quota() float64 {
	dirs, err := cpuGroups()
	if err != nil {
		return 0
	}
	least := 0.0
	for _, dir := range dirs {
		if q := groupQuota(dir); q > 0 && (least == 0 || q < least) {
			least = q
		}
	}
	return least
}

// groupQuota reads "max 100000" or "50000 100000" of v2, or v1's pair of files.
func groupQuota(dir string) float64 {
	text := func(name string) string {
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(raw))
	}
	max, period, ok := strings.Cut(text("cpu.max"), " ")
	if !ok {
		max, period = text("cpu.cfs_quota_us"), text("cpu.cfs_period_us")
	}
	q, err1 := strconv.ParseFloat(max, 64)
	p, err2 := strconv.ParseFloat(period, 64)
	if err1 != nil || err2 != nil || q <= 0 || p <= 0 {
		return 0 // "max", -1: none
	}
	return q / p
}

// cpuGroups returns the folders of this process's CPU cgroup and of its
// ancestors, as far as this mount namespace shows them.
func cpuGroups() ([]string, error) {
	self, err := procfs.Self()
	if err != nil {
		return nil, fmt.Errorf("probe: our cgroup: %w", err)
	}
	groups, err := self.Cgroups()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // a kernel without cgroups
	}
	if err != nil {
		return nil, fmt.Errorf("probe: our cgroup: %w", err)
	}
	mounts, err := procfs.GetMounts()
	if err != nil {
		return nil, fmt.Errorf("probe: our cgroup: %w", err)
	}
	var out []string
	for _, g := range groups {
		v2 := g.HierarchyID == 0
		if !v2 && !slices.Contains(g.Controllers, "cpu") {
			continue
		}
		for _, m := range mounts {
			_, cpu := m.SuperOptions["cpu"]
			if v2 && m.FSType != "cgroup2" || !v2 && (m.FSType != "cgroup" || !cpu) {
				continue
			}
			out = append(out, chain(m.MountPoint, m.Root, g.Path)...)
			break
		}
	}
	return out, nil
}

// chain lists the folders from a group up to the mount. For a group outside the
// mount, which a container may see, it returns the mount itself.
func chain(mount, root, group string) []string {
	rel, err := filepath.Rel(root, group)
	if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
		rel = "."
	}
	out := []string{mount}
	at := mount
	if rel != "." {
		for part := range strings.SplitSeq(rel, "/") {
			at = filepath.Join(at, part)
			out = append(out, at)
		}
	}
	return out
}
