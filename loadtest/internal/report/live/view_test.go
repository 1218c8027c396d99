package live_test

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/report/live"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/loadtest/internal/result/sample"
)

// screen is a terminal that knows the view's control sequences; an unknown one
// fails the test.
func screen(t *testing.T, out string) []string {
	t.Helper()
	lines, row, col := []string{""}, 0, 0
	for len(out) > 0 {
		if rest, ok := strings.CutPrefix(out, "\x1b["); ok {
			i := strings.IndexAny(rest, "ABCDEFGHJKhl")
			require.GreaterOrEqual(t, i, 0)
			arg := rest[:i]
			switch rest[i] {
			case 'F':
				n, err := strconv.Atoi(arg)
				require.NoError(t, err)
				row, col = row-n, 0
				require.GreaterOrEqual(t, row, 0, "above the screen")
			case 'K':
				lines[row] = string([]rune(lines[row])[:col])
			case 'J':
				lines = lines[:row+1]
				lines[row] = string([]rune(lines[row])[:col])
			case 'h', 'l':
				require.Equal(t, "?25", arg)
			default:
				require.Fail(t, "unknown sequence", "%q", rest[:i+1])
			}
			out = rest[i+1:]
			continue
		}
		r, n := utf8.DecodeRuneInString(out)
		out = out[n:]
		if r == '\n' {
			row, col = row+1, 0
			if row == len(lines) {
				lines = append(lines, "")
			}
			continue
		}
		l := []rune(lines[row])
		if col < len(l) {
			l[col] = r
		} else {
			l = append(l, r)
		}
		lines[row], col = string(l), col+1
	}
	return lines
}

func play(v *live.View, r *result.Report, health string) {
	for i, pt := range r.Timeline {
		v.Update(result.Progress{
			Elapsed: time.Duration(i) * time.Second, Total: 130 * time.Second, Phase: "hold", Point: pt, Health: health,
		})
	}
}

func TestTerminalShowsTheLastSecond(t *testing.T) {
	var b bytes.Buffer
	v := live.New(&b, true)
	play(v, sample.Report(1), "sent late 7 ms (p99)")
	v.Update(result.Progress{Elapsed: 65 * time.Second, Total: 130 * time.Second, Phase: "drain", Point: result.Point{
		Paths: []result.PointPath{{Name: "direct", Participants: 44, ReceivedBps: 131e6, Packets: 999, Lost: 1, LatencyP50Ms: 1.25, LatencyP99Ms: 3.5, Failed: 2}},
		CPU:   []result.PointCPU{{Name: "sfu", Cores: .5}, {Name: "sfu", Cores: .25}},
	}})
	v.Close()
	got := screen(t, b.String())
	require.Len(t, got, 6+1, "nothing of earlier blocks is left: %q", got)
	require.Equal(t, "████████████░░░░░░░░░░░░  50%  1:05 of 2:10  drain", got[0])
	require.Contains(t, got[2], "direct    44  131 Mbit/s  0.1%  1.25 ms  3.5 ms")
	require.Contains(t, got[2], "2 failed")
	require.Contains(t, got[3], "turn-udp  0", "a path that had nothing keeps its row")
	require.Equal(t, "cores  sfu 0.75", got[5])
	for _, l := range got {
		require.LessOrEqual(t, utf8.RuneCountInString(l), 80)
	}
	require.True(t, strings.HasSuffix(b.String(), "\x1b[?25h"), "the cursor is back")
}

func TestTerminalSparklineIsTheLastMinute(t *testing.T) {
	var b bytes.Buffer
	v := live.New(&b, true)
	for i := range 200 {
		bps := 8.0
		if i < 150 {
			bps = 800 // long ago: no part of the scale
		}
		if i == 199 {
			bps = 4
		}
		v.Update(result.Progress{Elapsed: time.Duration(i) * time.Second, Point: result.Point{Paths: []result.PointPath{{Name: "x", ReceivedBps: bps}}}})
	}
	v.Close()
	row := screen(t, b.String())[2]
	require.Equal(t, 30, strings.Count(row, "▁")+strings.Count(row, "█"), row)
}

func TestNoTerminalOneLineEveryFiveSeconds(t *testing.T) {
	var b bytes.Buffer
	v := live.New(&b, false)
	play(v, sample.Report(1), "")
	v.Close()
	require.NotContains(t, b.String(), "\x1b")
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	require.Len(t, lines, 26) // 130 s
	require.Regexp(t, `^0:05/2:10 hold \| direct: \d+ in, .*bit/s, loss .*%, p99 .* ms \| turn-udp: .* \| cores generator `, lines[1])
}

func TestTextFromOutsideMovesNoCursor(t *testing.T) {
	for _, tty := range []bool{true, false} {
		var b bytes.Buffer
		v := live.New(&b, tty)
		v.Update(result.Progress{Note: "evil\x1b[2J\r\nmore", Health: "\x1b[H", Phase: "\x07\x9b", Point: result.Point{Paths: []result.PointPath{{Name: "\x1b[H"}}}})
		require.NotContains(t, b.String(), "\x1b[2J")
		require.NotContains(t, b.String(), "\x1b[H")
		require.NotContains(t, b.String(), "\x07")
		require.NotContains(t, b.String(), "\u009b")
		require.Contains(t, b.String(), "evil")
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("gone") }

func TestGoesOnWithoutReader(t *testing.T) {
	v := live.New(broken{}, true)
	play(v, sample.Report(1), "")
	v.Close()
	v.Close()
	var b bytes.Buffer
	v = live.New(&b, true)
	v.Close()
	v.Update(result.Progress{})
	require.Empty(t, b.String(), "closed is closed")
}

func TestSeveralGoroutines(t *testing.T) {
	var b bytes.Buffer
	v := live.New(&b, true)
	var wg sync.WaitGroup
	r := sample.Report(1)
	for range 4 {
		wg.Go(func() { play(v, r, "") })
	}
	wg.Wait()
	v.Close()
	require.Len(t, screen(t, b.String()), 7)
}
