package measure

import (
	"context"
	"slices"
)

// Turns runs the subjects, given by index 0 to subjects-1, rounds times each:
// forwards in one round and backwards in the next (A B B A), so that drift over
// time affects all alike. It stops at the first error.
func Turns(ctx context.Context, subjects, rounds int, run func(ctx context.Context, round, subject int) error) error {
	order := make([]int, subjects)
	for i := range order {
		order[i] = i
	}
	for round := range rounds {
		for _, s := range order {
			if err := ctx.Err(); err != nil {
				return context.Cause(ctx)
			}
			if err := run(ctx, round, s); err != nil {
				return err
			}
		}
		slices.Reverse(order)
	}
	return nil
}
