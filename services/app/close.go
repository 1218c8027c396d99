package app

import (
	"errors"
	"net"
)

// ignoreClosed makes a closer that may be called after the thing was closed.
func ignoreClosed(c func() error) func() error {
	return func() error {
		if err := c(); err != nil && !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	}
}
