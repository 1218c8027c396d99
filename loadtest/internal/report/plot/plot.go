package plot

import (
	"encoding/json"
	"fmt"
	"html/template"
	"math"
	"strings"
)

// XY is a point.
type XY struct{ X, Y float64 }

// Line is one series.
type Line struct {
	Name string
	// Slot is the colour and the dash pattern, 0 to 5.
	Slot   int
	Points []XY
	// Steps draws the line as stairs, as for a distribution.
	Steps bool
}

// Chart is a drawing of lines.
type Chart struct {
	ID    string // unique on the page
	Title string
	// About says what the chart shows, for screen readers.
	About  string
	X, Y   Scale
	XLabel string
	YLabel string
	Lines  []Line
	// Before, if set, is the value of X up to which the drawing is shaded: the
	// warm-up.
	Before *float64
	// XText and YText format a value under the pointer.
	XText, YText func(float64) string
}

// The size of the drawing, in SVG units: the page scales it.
const (
	width, height            = 640, 280
	left, right, top, bottom = 74, 22, 12, 46
)

func px(s Scale, v float64) float64 { return left + s.Pos(v)*(width-left-right) }
func py(s Scale, v float64) float64 { return height - bottom - s.Pos(v)*(height-top-bottom) }

// SVG returns the chart as an HTML figure with a legend.
func (c Chart) SVG() (template.HTML, error) {
	var b strings.Builder
	data, err := c.data()
	if err != nil {
		return "", err
	}
	v := view{Chart: c, Data: data, Width: width, Height: height, Left: left, Right: width - right, Top: top, Bottom: height - bottom, MidX: (left + width - right) / 2, MidY: (top + height - bottom) / 2, Tall: height - top - bottom}
	lastX := math.Inf(-1)
	for _, t := range c.X.Ticks {
		m := mark{num(px(c.X, t.At)), t.Label}
		// A label that would overlap another one is left out; its line stays.
		if at := px(c.X, t.At); at-lastX < 8*float64(len([]rune(t.Label))) {
			m.Label = ""
		} else {
			lastX = at
		}
		v.XTicks = append(v.XTicks, m)
	}
	for _, t := range c.Y.Ticks {
		v.YTicks = append(v.YTicks, mark{num(py(c.Y, t.At)), t.Label})
	}
	if c.Before != nil {
		if w := px(c.X, *c.Before) - left; w > 0 {
			v.Shade = num(w)
		}
	}
	for _, l := range c.Lines {
		v.Paths = append(v.Paths, drawn{Class: fmt.Sprintf("s%d", l.Slot%6), Name: l.Name, D: c.path(l)})
	}
	if err := figure.Execute(&b, v); err != nil {
		return "", fmt.Errorf("chart %s: %w", c.ID, err)
	}
	return template.HTML(b.String()), nil //nolint:gosec // made by html/template just above
}

// path returns the line's d attribute.
func (c Chart) path(l Line) string {
	var b strings.Builder
	for i, p := range l.Points {
		x, y := num(px(c.X, p.X)), num(py(c.Y, p.Y))
		switch {
		case i == 0:
			fmt.Fprintf(&b, "M%s %s", x, y)
		case l.Steps:
			fmt.Fprintf(&b, "H%sV%s", x, y)
		default:
			fmt.Fprintf(&b, "L%s %s", x, y)
		}
	}
	return b.String()
}

// data is what the script needs to show values: positions and texts of each line.
func (c Chart) data() (string, error) {
	type series struct {
		Name string     `json:"n"`
		Slot int        `json:"s"`
		X    []float64  `json:"x"`
		Y    []float64  `json:"y"`
		Text [][]string `json:"t"`
	}
	var out []series
	for _, l := range c.Lines {
		s := series{Name: l.Name, Slot: l.Slot % 6}
		for _, p := range l.Points {
			s.X = append(s.X, math.Round(px(c.X, p.X)*10)/10)
			s.Y = append(s.Y, math.Round(py(c.Y, p.Y)*10)/10)
			s.Text = append(s.Text, []string{c.XText(p.X), c.YText(p.Y)})
		}
		out = append(out, s)
	}
	raw, err := json.Marshal(out)
	return string(raw), err
}

func num(v float64) string { return trim(fmt.Sprintf("%.1f", v)) }

type mark struct{ At, Label string }

type drawn struct{ Class, Name, D string }

type view struct {
	Chart
	Data                     string
	Width, Height            int
	Left, Right, Top, Bottom int
	MidX, MidY               int
	XTicks, YTicks           []mark
	Shade                    string
	Tall                     int
	Paths                    []drawn
}

var figure = template.Must(template.New("figure").Parse(`<figure class="chart" id="{{.ID}}">
<figcaption>{{.Title}}</figcaption>
{{- if gt (len .Paths) 0}}
<ul class="legend">{{range .Paths}}<li><svg class="key" viewBox="0 0 26 8" aria-hidden="true"><path class="line {{.Class}}" d="M1 4H25"/></svg>{{.Name}}</li>{{end}}</ul>{{end}}
<svg class="plot" viewBox="0 0 {{.Width}} {{.Height}}" role="img" aria-labelledby="{{.ID}}-t {{.ID}}-d" data-lines="{{.Data}}">
<title id="{{.ID}}-t">{{.Title}}</title><desc id="{{.ID}}-d">{{.About}}</desc>
{{- if .Shade}}<rect class="warmup" x="{{.Left}}" y="{{.Top}}" width="{{.Shade}}" height="{{.Tall}}"/>{{end}}
{{- range .YTicks}}<path class="grid" d="M{{$.Left}} {{.At}}H{{$.Right}}"/><text class="tick" x="{{$.Left}}" y="{{.At}}" dx="-7" dy="4" text-anchor="end">{{.Label}}</text>{{end}}
{{- range .XTicks}}<path class="grid faint" d="M{{.At}} {{$.Top}}V{{$.Bottom}}"/>{{if .Label}}<text class="tick" x="{{.At}}" y="{{$.Bottom}}" dy="16" text-anchor="middle">{{.Label}}</text>{{end}}{{end}}
<path class="axis" d="M{{.Left}} {{.Bottom}}H{{.Right}}"/>
<text class="label" x="{{.MidX}}" y="{{.Height}}" dy="-6" text-anchor="middle">{{.XLabel}}</text>
<text class="label" transform="translate(13 {{.MidY}}) rotate(-90)" text-anchor="middle">{{.YLabel}}</text>
{{- range .Paths}}<path class="line {{.Class}}" d="{{.D}}"><title>{{.Name}}</title></path>{{end}}
<g class="hover"></g></svg></figure>`))
