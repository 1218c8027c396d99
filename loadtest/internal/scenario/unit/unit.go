// Package unit parses and formats the quantities of a load test: bit rates
// ("1.7Mbps", "300kbps", "64000") and shares of a whole ("1%", "0.01"). Scenarios
// and thresholds both use it, so that a number means the same in both.
package unit

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// ErrBitrate is returned for text that is not a bit rate.
var ErrBitrate = errors.New("not a bit rate: write 1.7Mbps, 300kbps, or a plain number of bit/s")

// ErrShare is returned for text that is not a share.
var ErrShare = errors.New("not a share: write 1% or 0.01")

// scale is a bit rate's unit, in lower case, and its value in bit/s. Units are
// decimal, as is usual in networking: 1 kbps is 1000 bit/s.
type scale struct {
	suffix string
	bits   float64
}

// scales has longer suffixes first, since each ends with a shorter one.
func scales() []scale {
	return []scale{
		{"gbit/s", 1e9}, {"mbit/s", 1e6}, {"kbit/s", 1e3}, {"bit/s", 1},
		{"gbps", 1e9}, {"mbps", 1e6}, {"kbps", 1e3}, {"bps", 1},
	}
}

// Bitrate parses a bit rate, in upper or lower case and with or without a space
// before the unit. It may be negative or zero, but is finite. Otherwise the error
// is ErrBitrate.
func Bitrate(text string) (float64, error) {
	low := strings.ToLower(strings.TrimSpace(text))
	worth := 1.0
	for _, s := range scales() {
		if rest, ok := strings.CutSuffix(low, s.suffix); ok {
			low, worth = strings.TrimSpace(rest), s.bits
			break
		}
	}
	v, err := Number(low)
	if err != nil || math.IsInf(v*worth, 0) {
		return 0, fmt.Errorf("%q is %w", text, ErrBitrate)
	}
	return v * worth, nil
}

// Share parses a part of a whole: "1%" and "0.01" are the same. It does not check
// bounds. The error is ErrShare.
func Share(text string) (float64, error) {
	t := strings.TrimSpace(text)
	if rest, ok := strings.CutSuffix(t, "%"); ok {
		v, err := Number(strings.TrimSpace(rest))
		if err != nil {
			return 0, fmt.Errorf("%q is %w", text, ErrShare)
		}
		return v / 100, nil
	}
	v, err := Number(t)
	if err != nil {
		return 0, fmt.Errorf("%q is %w", text, ErrShare)
	}
	return v, nil
}

// Number parses a finite decimal number. It refuses hexadecimal, NaN, infinity and
// underscores, which strconv accepts.
func Number(text string) (float64, error) {
	if strings.Trim(text, "+-.0123456789eE") != "" {
		return 0, fmt.Errorf("%q is not a number", text)
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a number", text)
	}
	return v, nil
}

// FormatBitrate formats whole bits per second with the largest unit that keeps
// them exact to a thousandth: 1700000 is "1.7Mbps", 64001 is "64.001kbps".
func FormatBitrate(bits int) string {
	for _, s := range []struct {
		name string
		bits int
	}{{"Gbps", 1e9}, {"Mbps", 1e6}, {"kbps", 1e3}} {
		if bits >= s.bits && bits%(s.bits/1000) == 0 {
			return strconv.FormatFloat(float64(bits)/float64(s.bits), 'f', -1, 64) + s.name
		}
	}
	return strconv.Itoa(bits)
}
