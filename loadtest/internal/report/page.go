package report

import (
	"fmt"
	"html/template"
	"time"

	"github.com/openova-io/bp-relay/loadtest/internal/result"

	"github.com/openova-io/bp-relay/loadtest/internal/report/plot"
)

// page is the template's data: formatted texts.
type page struct {
	assets
	*result.Report
	Words    words
	About    string
	When     string
	Checks   []checkRow
	Tiles    []tile
	Table    table
	TaxRows  []taxRow
	Time     []template.HTML // time series
	Dist     []template.HTML // distributions
	Joining  []template.HTML
	Flows    []flow
	CPU      []processRow
	Health   []fact
	Origin   []fact
	Machines []machine
	YAML     string
}

type checkRow struct {
	result.Check
	Measured, Word, Class string
}

type tile struct{ Name, Value, Note string }

type fact struct{ Name, Value, Note string }

// table has the paths as columns.
type table struct {
	Heads  []string
	Groups []group
}

type group struct {
	Name string
	Rows []row
}

type row struct {
	Name  string
	Cells []string
}

type taxRow struct{ Path, CPU, P50, P99, Loss, Join string }

type processRow struct{ Name, Host, CPU, Cores, RSS, Peak, Drops, Cost string }

type machine struct{ Worker, Host, Cores, Kernel, Started, Lasted string }

func pageOf(r *result.Report) (*page, error) {
	p := &page{
		assets: embedded(), Report: r, Words: wordsOf(r), About: aboutOf(r),
		When: r.Started.UTC().Format("2 January 2006, 15:04:05 MST"),
		YAML: scenarioYAML(r.Scenario),
	}
	for _, c := range r.Thresholds {
		row := checkRow{c, checkValue(c), "broken", "bad"}
		switch {
		case c.Value == nil && !c.Passed:
			row.Measured, row.Word, row.Class = none, "not measured", "unsure"
		case c.Passed:
			row.Word, row.Class = "held", "good"
		}
		p.Checks = append(p.Checks, row)
	}
	p.Tiles = tiles(r)
	p.Table = tableOf(r)
	for _, t := range r.Taxes {
		p.TaxRows = append(p.TaxRows, taxRow{
			t.Path, cost(t.TurnCPUSecondsPerGbit), signed(t.LatencyP50Ms, unitMs), signed(t.LatencyP99Ms, unitMs),
			signed(t.LossPoints, unitShare), signed(t.JoinP50Ms, unitMs),
		})
	}
	for _, c := range r.Processes {
		p.CPU = append(p.CPU, processRow{
			fmt.Sprintf("%s (%d)", c.Name, c.PID), hostOf(r, c.Host), lasted(c.CPUSeconds), plot.Short(c.Cores),
			plot.Number(float64(c.RSSBytes), unitBytes), plot.Number(float64(c.PeakBytes), unitBytes), count(c.SocketDrops), cost(c.CPUSecondsPerGbit),
		})
	}
	for _, m := range r.Parts {
		p.Machines = append(p.Machines, machine{fmt.Sprintf("%d of %d", m.Worker+1, m.Workers), m.Host, count(int64(m.Cores)), m.Kernel, m.Started.UTC().Format(time.TimeOnly), lasted(m.Seconds)})
	}
	p.Flows = flows(r)
	p.Health = health(r)
	p.Origin = origin(r)
	return p, p.draw(r)
}

// hostOf returns the host of a process; it is unknown in a report without parts.
func hostOf(r *result.Report, name string) string {
	if name == "" && len(r.Parts) > 0 {
		return r.Parts[0].Host
	}
	return name
}

func cost(v *float64) string {
	if v == nil {
		return none
	}
	return figure(*v, unitCost)
}

// tiles are the most important figures.
func tiles(r *result.Report) []tile {
	var out []tile
	add := func(name, group, metricName, note string) {
		for _, m := range metrics() {
			if m.group == group && m.name == metricName {
				if v, ok := m.of(r, &r.Total); ok {
					out = append(out, tile{name, figure(v, m.unit), note})
				}
			}
		}
	}
	add("delivered", "Media", "received", "to all subscribers, average")
	add("packet loss", "Media", "loss", count(r.Total.Received.Lost)+" of "+count(r.Total.Received.Expected)+" packets")
	add("latency, median", "Latency", "latency p50", "one way")
	add("latency, p99", "Latency", "latency p99", "one in a hundred packets is slower")
	add("first frame, median", "Joins", "first frame p50", "from the due join to the first frame")
	add("freezes", "Media", "freezes", lasted(r.Total.Received.FreezeSeconds)+" in all")
	add("calls", "Calls", "calls", "")
	add("call, p99", "Calls", "call p99", "from the moment it was due")
	add("recordings sealed", "Recordings", "sealed", "")
	return out
}

// tableOf leaves out figures that no path measured.
func tableOf(r *result.Report) table {
	var t table
	paths := shownPaths(r)
	for _, p := range paths {
		t.Heads = append(t.Heads, p.Name)
	}
	for _, m := range metrics() {
		line := row{Name: m.name}
		there := false
		for _, p := range paths {
			line.Cells = append(line.Cells, m.text(r, p))
			_, ok := m.of(r, p)
			there = there || ok
		}
		if !there {
			continue
		}
		if n := len(t.Groups); n == 0 || t.Groups[n-1].Name != m.group {
			t.Groups = append(t.Groups, group{Name: m.group})
		}
		g := &t.Groups[len(t.Groups)-1]
		g.Rows = append(g.Rows, line)
	}
	return t
}

func health(r *result.Report) []fact {
	s := r.Self
	var out []fact
	add := func(name, value, note string) { out = append(out, fact{name, value, note}) }
	if s.Lag.Count() > 0 {
		add("sent late, p99", millis(result.Ms(s.Lag.Quantile(.99))), "how far behind schedule the generator sent; maximum "+millis(result.Ms(s.Lag.Max())))
	}
	if s.ReadLag.Count() > 0 {
		add("read late, p99", millis(result.Ms(s.ReadLag.Quantile(.99))), "how long the oldest packet of each read waited in the kernel; latency excludes it")
	}
	add("waited for a processor", millis(s.RunWaitMs), "how long a runnable thread of the generator waited, on average; "+percent(s.RunDelay)+" of its runnable time")
	add("machine busy", percent(s.Busy), "by all processes")
	add("taken by the hypervisor", percent(s.Steal), "")
	add("garbage collection", percent(s.GC), "of the generator's processor time")
	add("dropped at our sockets", count(s.SocketDrops), "attributed to the generator, not to the system under test; "+count(s.RcvbufErrors)+" in the whole network namespace")
	add("refused by our queues", count(s.QueueDrops), "")
	add("failed sends", count(s.SendErrors), "")
	if s.Reads > 0 || s.Sends > 0 {
		add("packets per system call", plot.Short(s.PacketsPerRead)+" read, "+plot.Short(s.PacketsPerSend)+" sent", count(s.Reads)+" reads, "+count(s.Sends)+" sends")
	}
	return out
}

func origin(r *result.Report) []fact {
	p := r.Provenance
	bound := "unknown: one-way latencies between hosts are not valid"
	if p.ClockBoundMs != nil {
		bound = "within " + millis(*p.ClockBoundMs)
	} else if result.OneHost(r.Parts) {
		bound = "one host, one clock"
	}
	out := []fact{
		{"program", fmt.Sprintf("%s %s, %s", r.Tool.Name, r.Tool.Version, r.Tool.Go), ""},
		{"subscribers that checked every packet", count(int64(p.Witnesses)), "decrypted and parsed"},
		{"subscribers that read headers only", count(int64(p.HeaderOnly)), ""},
		{"latency is", p.Clock, ""},
		{"clocks of the hosts", bound, ""},
		{"bandwidth estimation offered", p.BWE, ""},
	}
	for _, n := range p.Notes {
		out = append(out, fact{"note", n, ""})
	}
	return out
}
