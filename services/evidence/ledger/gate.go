package ledger

import (
	"errors"
	"fmt"
	"sync"

	"github.com/openova-io/bp-relay/services/records"
)

// errRolledBack: the records have lost entries that this term has signed.
var errRolledBack = errors.New("ledger: the records were rolled back")

// gate lets a term sign. It is closed until the object store was compared with
// the records, and whenever they contradict each other. It is safe for
// concurrent use.
type gate struct {
	mu   sync.Mutex
	may  bool
	last records.Checkpoint // the newest one of this term
}

func newGate() *gate { return &gate{} }

func (g *gate) open() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.may
}

// let opens the gate: the store was compared.
func (g *gate) let() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.may = true
}

// shut closes it: the store contradicts the records.
func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.may = false
}

// doubt closes it until the store was compared again, and forgets what was
// signed: then the store decides.
func (g *gate) doubt() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.may, g.last = false, records.Checkpoint{}
}

// signed remembers the newest checkpoint of the term.
func (g *gate) signed(cp records.Checkpoint) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.last = cp
}

// follows returns errRolledBack if the records' checkpoint is not the newest one
// of this term.
func (g *gate) follows(old records.Checkpoint) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.last.Size > old.Size || (g.last.Size == old.Size && g.last.Root != old.Root) {
		return fmt.Errorf("%w: size %d, this term has signed %d", errRolledBack, old.Size, g.last.Size)
	}
	return nil
}
