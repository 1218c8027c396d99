package result

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// The range of a Hist, in microseconds: a longer duration counts as an hour.
const (
	lowest  = 1
	highest = int64(time.Hour / time.Microsecond)
	digits  = 3
)

// Hist is a distribution of durations with 1 µs resolution at best and three
// significant digits. It keeps every count (HdrHistogram), so that histograms
// of several workers add up exactly. It belongs to one goroutine.
type Hist struct{ h *hdrhistogram.Histogram }

// NewHist returns an empty histogram.
func NewHist() *Hist { return &Hist{h: hdrhistogram.New(lowest, highest, digits)} }

// Record adds a duration; a negative one, from an adjusted clock, counts as zero.
func (h *Hist) Record(d time.Duration) { h.RecordN(d, 1) }

// RecordN adds a duration n times.
func (h *Hist) RecordN(d time.Duration, n int64) {
	us := min(max(int64(d/time.Microsecond), 0), highest)
	_ = h.h.RecordValues(us, n) // within the range, so there is no error
}

// Add adds another histogram's counts; nil adds nothing.
func (h *Hist) Add(o *Hist) {
	if o != nil {
		h.h.Merge(o.h)
	}
}

// Reset empties it.
func (h *Hist) Reset() { h.h.Reset() }

// Clone is a copy.
func (h *Hist) Clone() *Hist {
	c := NewHist()
	c.Add(h)
	return c
}

// Count is the number of values; 0 of nil.
func (h *Hist) Count() int64 {
	if h == nil {
		return 0
	}
	return h.h.TotalCount()
}

// Quantile is the duration below which the share q (0 to 1) of the values lies; 0
// if there are none.
func (h *Hist) Quantile(q float64) time.Duration {
	if h.Count() == 0 {
		return 0
	}
	return time.Duration(h.h.ValueAtQuantile(q*100)) * time.Microsecond
}

// Max is the longest duration; 0 if there is none.
func (h *Hist) Max() time.Duration {
	if h.Count() == 0 {
		return 0
	}
	return time.Duration(h.h.Max()) * time.Microsecond
}

// Min is the shortest duration; 0 if there is none.
func (h *Hist) Min() time.Duration {
	if h.Count() == 0 {
		return 0
	}
	return time.Duration(h.h.Min()) * time.Microsecond
}

// Mean is the average; 0 if there are no values.
func (h *Hist) Mean() time.Duration {
	if h.Count() == 0 {
		return 0
	}
	return time.Duration(h.h.Mean() * float64(time.Microsecond))
}

// Bar is a bucket of the distribution, for plots.
type Bar struct {
	From, To time.Duration
	Count    int64
}

// Bars are the buckets that are not empty, in order.
func (h *Hist) Bars() []Bar {
	if h == nil {
		return nil
	}
	var out []Bar
	for _, b := range h.h.Distribution() {
		if b.Count > 0 {
			out = append(out, Bar{time.Duration(b.From) * time.Microsecond, time.Duration(b.To) * time.Microsecond, b.Count})
		}
	}
	return out
}

// histJSON has milliseconds for people and the whole histogram, as
// HdrHistogram's V2 compressed encoding in base64, for machines.
type histJSON struct {
	Count int64   `json:"count"`
	Min   float64 `json:"min_ms"`
	Mean  float64 `json:"mean_ms"`
	P50   float64 `json:"p50_ms"`
	P90   float64 `json:"p90_ms"`
	P99   float64 `json:"p99_ms"`
	P999  float64 `json:"p999_ms"`
	Max   float64 `json:"max_ms"`
	HDR   string  `json:"hdr"`
}

// Ms is a duration in milliseconds, to a microsecond.
func Ms(d time.Duration) float64 { return math.Round(float64(d)/float64(time.Microsecond)) / 1000 }

// MarshalJSON writes percentiles and the whole histogram.
func (h *Hist) MarshalJSON() ([]byte, error) {
	raw, err := h.h.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
	if err != nil {
		return nil, fmt.Errorf("histogram: %w", err)
	}
	return json.Marshal(histJSON{
		Count: h.Count(), Min: Ms(h.Min()), Mean: Ms(h.Mean()), Max: Ms(h.Max()),
		P50: Ms(h.Quantile(.5)), P90: Ms(h.Quantile(.9)), P99: Ms(h.Quantile(.99)), P999: Ms(h.Quantile(.999)), HDR: string(raw),
	})
}

// UnmarshalJSON reads the whole histogram and ignores the percentiles.
func (h *Hist) UnmarshalJSON(p []byte) error {
	var j histJSON
	if err := json.Unmarshal(p, &j); err != nil {
		return fmt.Errorf("histogram: %w", err)
	}
	d, err := hdrhistogram.Decode([]byte(j.HDR))
	if err != nil {
		return fmt.Errorf("histogram: %w", err)
	}
	if d.TotalCount() != j.Count {
		return errors.New("histogram: the counts do not add up to count")
	}
	h.h = hdrhistogram.New(lowest, highest, digits)
	if dropped := h.h.Merge(d); dropped != 0 {
		return fmt.Errorf("histogram: %d values are outside of 1 µs to 1 h", dropped)
	}
	return nil
}
