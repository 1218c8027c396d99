package verify

import (
	"bufio"
	"crypto/sha256"
	"io"
	"strings"

	"github.com/openova-io/bp-relay/services/format/bag"
)

// list checks a bag manifest (RFC 8493 §2.1.3, §2.2.1) against the files that
// were read before it. In a tar, its lines are in the order of the files.
func (c *checker) list(f file, this slot) (int64, error) {
	c.hash.wait()
	payload := f.name == bag.PayloadSums
	c.listed[index(payload)] = true
	sum := sha256.New()
	in := bufio.NewReaderSize(io.TeeReader(io.LimitReader(f.body, f.size), sum), 64<<10)
	var n int64
	last, moved := uint32(0), false
	for num := 1; ; num++ {
		text, err := in.ReadSlice('\n')
		n += int64(len(text))
		if ended(err) && len(text) == 0 {
			break
		}
		hash, name, ok := listLine(string(text))
		if err != nil || !ok {
			c.rec.add(BagForm, f.name, "line %d is not a hash and a file name", num)
			if err != nil {
				rest, cerr := io.Copy(io.Discard, in)
				n += rest
				if cerr != nil {
					return n, short(n, f, cerr)
				}
				break
			}
			continue
		}
		if !bag.SafeName(name) || isPayload(name) != payload {
			c.rec.add(BagForm, f.name, "line %d names %.200q, which cannot be in this list", num, name)
			continue
		}
		at := c.listedFile(f.name, name, hash)
		if at != 0 && at < last && c.tar != nil && !moved {
			moved = true
			c.rec.add(BagOrder, name, "the file's place in the archive differs from its place in %s: files were moved", f.name)
		}
		last = max(last, at)
	}
	got := [sha256.Size]byte(sum.Sum(nil))
	this.set(got)
	if !payload {
		c.tagSums = hexOf(got)
	}
	return n, short(n, f, nil)
}

// listLine parses a line: a hash in lower-case hex, two spaces, a name.
func listLine(line string) (hash, name string, ok bool) {
	const digits = 2 * sha256.Size
	line = strings.TrimSuffix(line, "\n")
	if len(line) < digits+3 || line[digits:digits+2] != "  " || strings.Trim(line[:digits], "0123456789abcdef") != "" {
		return "", "", false
	}
	return line[:digits], bag.DecodePath(line[digits+2:]), true
}

// listedFile compares a listed hash with the file's. It returns the file's
// place, 0 if it is not in the bag.
func (c *checker) listedFile(list, name, sum string) uint32 {
	s, ok := c.slot(name)
	switch {
	case !ok || *s.at == 0:
		if !s.sealed && !c.rec.named(name) { // a segment is judged by the manifest
			c.rec.add(BagMissing, name, "the file is listed in %s but is not in the bag: it was removed", list)
		}
		return 0
	case *s.listed:
		c.rec.add(BagDuplicate, name, "the file is listed twice in %s", list)
	case hexOf(*s.sum) != sum && !c.rec.named(name) && !c.capture.differs(name):
		c.rec.add(BagChanged, name, "its hash differs from the one in %s: the file was changed", list)
	}
	*s.listed = true
	return *s.at
}
