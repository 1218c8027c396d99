package app

import (
	"fmt"
	"time"
)

// bound says which values a number or duration of the configuration may have.
// What is outside is a slip of the pen, such as a unit that was forgotten.
type bound struct {
	key                string
	value, least, most int64
	duration           bool
	unit               string
}

// bounds has every number and duration of the configuration.
func (c *Config) bounds() []bound {
	count := func(key string, value int, least, most int64, unit string) bound {
		return bound{key: key, value: int64(value), least: least, most: most, unit: unit}
	}
	duration := func(key string, value, least, most time.Duration) bound {
		return bound{key: key, value: int64(value), least: int64(least), most: int64(most), duration: true}
	}
	const noLimit, many = 0, 1_000_000_000
	return []bound{
		count("limits.subject", c.Limits.Subject, noLimit, many, "calls per second, 0 for no limit"),
		count("limits.org", c.Limits.Org, noLimit, many, "calls per second, 0 for no limit"),
		count("limits.connections", c.Limits.Connections, noLimit, many, "connections, 0 for no limit"),
		count("limits.untrusted", c.Limits.Untrusted, noLimit, many, "connections, 0 for no limit"),
		count("limits.untrusted_per_address", c.Limits.UntrustedPerAddress, noLimit, many, "connections, 0 for no limit"),
		count("room.joins", c.Room.Joins, noLimit, many, "answers per minute, 0 for no limit"),
		count("turn.mints", c.Turn.Mints, noLimit, many, "credentials per minute, 0 for no limit"),
		count("turn.user_quota", c.Turn.Quota, noLimit, many, "allocations, 0 for no limit"),
		count("room.end_at_once", c.Room.EndAtOnce, 1, 100, "percent"),
		duration("guacd.first_frame", c.Guacd.FirstFrame, time.Second, 24*time.Hour),
		count("sessions.person", c.Sessions.Person, 1, many, "sessions"),
		count("sessions.org", c.Sessions.Org, 1, many, "sessions"),
		count("sessions.pixels", c.Sessions.Pixels, 160*120, 8192*8192, "pixels"),
		{key: "capture.max_spool", value: c.Capture.MaxSpool, least: 1 << 20, most: 1 << 50, unit: "bytes"},
		{key: "capture.org_share", value: c.Capture.OrgShare, least: 0, most: 1 << 50, unit: "bytes, 0 for a hundredth of capture.max_spool"},
		count("capture.required_share", c.Capture.RequiredShare, 1, 100, "percent"),
		duration("capture.patience", c.Capture.Patience, time.Second, 7*24*time.Hour),
		duration("startup", c.Startup, 0, time.Hour),
		duration("shutdown", c.Shutdown, time.Millisecond, time.Hour),
	}
}

func (b bound) holds() bool { return b.value >= b.least && b.value <= b.most }

// String says what is wrong with a value that does not hold.
func (b bound) String() string {
	if b.duration {
		return fmt.Sprintf("%s: %s: want %s to %s", b.key, time.Duration(b.value), time.Duration(b.least), time.Duration(b.most))
	}
	return fmt.Sprintf("%s: %d: want %d to %d (%s)", b.key, b.value, b.least, b.most, b.unit)
}
