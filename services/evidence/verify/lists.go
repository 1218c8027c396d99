package verify

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/openova-io/bp-relay/services/evidence/bag"
)

// list checks a bag manifest (RFC 8493, sections 2.1.3 and 2.2.1) against the
// files that were read before it. In a tar its lines are in the files' order.
func (c *checker) list(f file, this *seenFile) (int64, error) {
	c.hash.wait()
	payload := f.name == bag.PayloadSums
	c.listed[index(payload)] = true
	sum := sha256.New()
	in := bufio.NewReaderSize(io.TeeReader(f.body, sum), 64<<10)
	line := regexp.MustCompile(`^([0-9a-f]{64})  (.+)$`)
	var n int64
	last, moved := -1, false
	for num := 1; ; num++ {
		text, err := in.ReadSlice('\n')
		n += int64(len(text))
		if errors.Is(err, io.EOF) && len(text) == 0 {
			break
		}
		m := line.FindStringSubmatch(strings.TrimSuffix(string(text), "\n"))
		if err != nil || m == nil {
			c.rec.add(BagForm, f.name, "line %d is not a hash and a file's name", num)
			if err != nil {
				rest, cerr := io.Copy(io.Discard, in)
				n += rest
				if cerr != nil {
					return n, cerr
				}
				break
			}
			continue
		}
		name := bag.DecodePath(m[2])
		if !bag.SafeName(name) || isPayload(name) != payload {
			c.rec.add(BagForm, f.name, "line %d names %q, which cannot be listed there", num, name)
			continue
		}
		i := c.listedFile(f.name, name, m[1])
		if i >= 0 && i < last && c.tar != nil && !moved {
			moved = true
			c.rec.add(BagOrder, name, "the file is at another place in the archive than in %s: files were moved", f.name)
		}
		last = max(last, i)
	}
	if n != f.size {
		return n, fmt.Errorf("%w: %s", io.ErrUnexpectedEOF, f.name)
	}
	this.sum = [sha256.Size]byte(sum.Sum(nil))
	if !payload {
		c.tagSums = hexOf(this.sum)
	}
	return n, nil
}

// listedFile compares a listed hash with the file's and returns the file's
// place, -1 where it is not in the bag.
func (c *checker) listedFile(list, name, sum string) int {
	i, ok := c.seen[name]
	if !ok {
		if !c.rec.named(name) {
			c.rec.add(BagMissing, name, "the file is listed in %s but is not in the bag: it was removed", list)
		}
		return -1
	}
	f := c.files[i]
	if f.listed {
		c.rec.add(BagDuplicate, name, "the file is listed twice in %s", list)
	}
	f.listed = true
	want, err := hex.DecodeString(sum)
	if err == nil && string(want) != string(f.sum[:]) && !c.rec.named(name) {
		c.rec.add(BagChanged, name, "its bytes are not those listed in %s: the file was changed", list)
	}
	return i
}
