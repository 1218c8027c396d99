package sizing

import (
	"fmt"
	"slices"
	"strings"

	"github.com/openova-io/bp-relay/loadtest/internal/measure"
	"github.com/openova-io/bp-relay/loadtest/internal/plan"
)

// Fragments returns the tables of docs/sizing.md in Markdown, by the names of
// their markers.
func (d *Data) Fragments() map[string]string {
	return map[string]string{
		"machine":    d.machineText(),
		"cores":      d.coresText(),
		"direct":     d.seriesText(SeriesDirect),
		"witnesses":  d.seriesText(SeriesWitnesses),
		"turn":       d.seriesText(SeriesTURN),
		"publishers": d.seriesText(SeriesPublishers),
		"audio":      d.seriesText(SeriesAudio),
		"joins":      d.joinsText(),
		"recorder":   d.recorderText(),
		"plan":       d.plansText(),
	}
}

func (d *Data) machineText() string {
	m := d.Machine
	cpu := m.CPU
	if cpu == "" {
		cpu = m.Arch
	}
	text := fmt.Sprintf("Measured on %s: %d cores (%s), %.1f GiB, Linux %s; %d runs of %.0f s each, %.0f s in all; relay-loadtest %s, %s.",
		d.Measured.UTC().Format("2 January 2006, 15:04 UTC"), m.Cores, cell(cpu), float64(m.Memory)/(1<<30), cell(m.Kernel),
		len(d.Points), d.HoldSeconds, d.Seconds, cell(d.Tool.Version), cell(d.Tool.Go))
	if most := d.others(); most > measure.Number(measure.Quiet*float64(m.Cores)) {
		text += fmt.Sprintf("\n\n**The machine was not quiet: other processes used up to %s of its cores.** Latencies and verdicts include that disturbance.", short(most))
	}
	if d.Quick {
		text += "\n\n**This was a quick sweep: short runs, a third of the points. Its figures are orders of magnitude.**"
	}
	return text
}

// others returns the most cores that other processes used in a run.
func (d *Data) others() measure.Number {
	var most measure.Number
	for _, p := range d.Points {
		if p.OtherCores > most {
			most = p.OtherCores
		}
	}
	return most
}

func (d *Data) coresText() string {
	if len(d.Cores) == 0 {
		return "No run passed: there are no figures per core. The tables below give the reasons."
	}
	var rows [][]string
	dishonest := false
	for _, c := range d.Cores {
		busy := percent(c.Busy)
		if !c.Honest {
			busy, dishonest = busy+" (!)", true
		}
		rows = append(rows, []string{c.Who, c.What, whole(c.Participants), whole(c.Packets), short(c.Gbit), short(c.CPUSecondsPerGbit),
			mib(c.BytesPerParticipant), counted(c.Series, c.Size), short(c.Cores), busy})
	}
	text := table([]string{"<process", "<what it does", "participants per core", "packets/s per core", "Gbit/s per core", "CPU-s per Gbit",
		"MiB per participant", "<from the run with", "cores it used", "machine busy"}, rows)
	if dishonest {
		text += fmt.Sprintf("\n(!) No run of this series that passed left %.0f %% of the machine free, so the least busy one is used: threads waited for processors, and the figure is valid only for that machine in that state.\n", 100*(1-HonestBusy))
	}
	return text
}

// seriesText returns the table of a series and where it ended.
func (d *Data) seriesText(series string) string {
	points := d.of(series)
	if len(points) == 0 {
		return "Not measured in this sweep."
	}
	relayed := series == SeriesTURN
	heard := series != SeriesPublishers
	size := "subscribers"
	if !heard {
		size = "publishers"
	}
	head := []string{size, "packets/s", "Gbit/s", "generator cores", "SFU cores"}
	if relayed {
		head = append(head, "TURN cores")
	}
	head = append(head, "others' cores", "machine busy", "generator CPU-s/Gbit", "SFU CPU-s/Gbit")
	if relayed {
		head = append(head, "TURN CPU-s/Gbit")
	}
	head = append(head, "generator µs/packet", "SFU µs/packet")
	if heard {
		head = append(head, "p50 ms", "p99 ms", "lost")
	}
	head = append(head, "generator MiB", "SFU MiB", "<verdict")
	var rows [][]string
	for _, p := range points {
		flow := p.Delivered
		if !heard {
			flow = p.Sent
		}
		uses := []*Use{p.Generator, p.SFU}
		if relayed {
			uses = append(uses, p.TURN)
		}
		row := []string{whole(measure.Number(p.Size())), whole(flow.Packets), short(flow.Gbit)}
		row = append(row, each(uses, func(u *Use) string { return short(u.Cores) })...)
		row = append(row, short(p.OtherCores), percent(p.Busy))
		row = append(row, each(uses, func(u *Use) string { return short(u.CPUSecondsPerGbit) })...)
		row = append(row, each(uses[:2], func(u *Use) string { return short(u.MicrosPerPacket) })...)
		if heard {
			row = append(row, short(p.LatencyP50Ms), short(p.LatencyP99Ms), lost(&p))
		}
		row = append(row, each(uses[:2], func(u *Use) string { return mib(measure.Number(u.Bytes)) })...)
		rows = append(rows, append(row, verdict(&p)))
	}
	return table(head, rows) + d.ended(series)
}

func each(uses []*Use, of func(*Use) string) []string {
	var out []string
	for _, u := range uses {
		if u == nil {
			out = append(out, none)
			continue
		}
		out = append(out, of(u))
	}
	return out
}

func lost(p *Point) string {
	if p.Lost == 0 {
		return "0"
	}
	return fmt.Sprintf("%d (%s)", p.Lost, percent(p.Loss))
}

// verdict returns the word, with a mark if the machine was too busy for costs.
func verdict(p *Point) string {
	switch {
	case !p.Passed():
		return "**" + p.Verdict + "**"
	case !p.Honest():
		return fmt.Sprintf("%s, above %.0f %% busy", p.Verdict, 100*HonestBusy)
	}
	return p.Verdict
}

// ended states where a series ended early.
func (d *Data) ended(series string) string {
	i := slices.IndexFunc(d.Stops, func(s Stop) bool { return s.Series == series })
	if i < 0 {
		return ""
	}
	s := d.Stops[i]
	return fmt.Sprintf("\nThe series ended at %s, which is in the table and marked in the pictures: %s.\n", counted(s.Series, s.Size), cell(s.Why))
}

func (d *Data) joinsText() string {
	j := d.Joins
	if j == nil {
		return "Not measured in this sweep." + d.ended(SeriesJoins)
	}
	rows := [][]string{
		{"generator", ms(j.Generator), whole(1 / j.Generator)},
		{"sfu", ms(j.SFU), whole(1 / j.SFU)},
	}
	return table([]string{"<process", "CPU ms per join", "joins/s per core"}, rows) +
		fmt.Sprintf("\nAt %s joins a second, the machine was %s busy.\n", short(j.PerSecond), percent(j.Busy))
}

func ms(seconds measure.Number) string { return short(1000 * seconds) }

func (d *Data) recorderText() string {
	points := d.of(SeriesRecording)
	if len(points) == 0 {
		return "Not measured in this sweep: `relay-loadtest sizing --recorder` measures it, with a relay of its own (run `make build` first)."
	}
	var rows [][]string
	for _, p := range points {
		row := []string{whole(measure.Number(p.Publishers)), whole(measure.Number(p.Tracks)), short(p.Sent.Gbit * 1000)}
		uses := []*Use{p.Relay, p.SeaweedFS, p.SFU, p.Generator}
		row = append(row, each(uses, func(u *Use) string { return short(u.Cores) })...)
		row = append(row, percent(p.Busy))
		row = append(row, each(uses[:1], func(u *Use) string { return short(u.CPUSecondsPerGbit) })...)
		rows = append(rows, append(row, verdict(&p)))
	}
	return table([]string{"rooms", "tracks", "Mbit/s recorded", "relay cores", "SeaweedFS cores", "SFU cores", "generator cores", "machine busy", "relay CPU-s/Gbit", "<verdict"}, rows) +
		d.ended(SeriesRecording)
}

func (d *Data) plansText() string {
	if len(d.Plans) == 0 {
		return "No plan: " + cell(d.NoPlans) + "."
	}
	var rows [][]string
	for _, p := range d.Plans {
		row := []string{whole(measure.Number(p.Subscribers)), p.Path, fmt.Sprint(p.Rooms), short(measure.Number(p.Gbit)), fmt.Sprintf("%d (%s)", p.Workers, p.Bound)}
		for _, name := range []string{"sfu", "turn"} {
			i := slices.IndexFunc(p.Servers, func(e plan.Extrapolation) bool { return e.Server == name })
			if i < 0 {
				row = append(row, none, none)
				continue
			}
			e := p.Servers[i]
			row = append(row, fmt.Sprintf("%s (%s to %s)", number(e.Cores), number(e.Low), number(e.High)), times(e))
		}
		rows = append(rows, row)
	}
	m := d.Plans[0].Machine
	text := table([]string{"subscribers", "<path", "rooms", "Gbit/s", "<generators (deciding bound)", "SFU cores", "times measured", "TURN cores", "times measured"}, rows)
	text += fmt.Sprintf("\nA generator is a machine with %.0f cores, %.0f GiB and a network card of %.0f Gbit/s, used to %.0f %%. Cores are those of the test machine, by the median of the runs (and their range).\n",
		m.Cores, float64(m.Memory)/(1<<30), m.Gbit, 100*m.Headroom)
	if c := d.Cost; c != nil && len(c.Assumed) > 0 {
		text += "\nAssumed:\n\n- " + strings.Join(mapped(c.Assumed, cell), "\n- ") + "\n"
	}
	return text
}

func number(v float64) string { return short(measure.Number(v)) }

// times formats the multiple of the measured load, in bold if it is too high.
func times(e plan.Extrapolation) string {
	if e.Honest {
		return number(e.Times)
	}
	return "**" + number(e.Times) + "**"
}

func mapped(in []string, f func(string) string) []string {
	out := make([]string, len(in))
	for i, s := range in {
		out[i] = f(s)
	}
	return out
}
