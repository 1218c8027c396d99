package verify

import (
	"maps"
	"slices"

	"github.com/openova-io/bp-relay/services/format/bag"
	"github.com/openova-io/bp-relay/services/format/dsse"
	"github.com/openova-io/bp-relay/services/format/proof"
)

// finish checks what can be checked only after the last file.
func (c *checker) finish() {
	if c.phase <= proofsPhase && !c.stopped {
		if err := c.judgeCustody(); err != nil {
			c.rec.add(BagTruncated, bag.CustodyLog, "%v", err)
		}
	}
	c.signature()
	c.rec.report.Custody, c.rec.report.Erased = len(c.custody.entries), c.custody.erased
	if c.stopped {
		return // what is missing is not known
	}
	c.capture.judge(&c.rec, c.signed)
	if !c.capture.read {
		c.rec.add(BagMissing, bag.ManifestPath(bag.CaptureID(c.custody.facts.exportedOf)), "the recording's manifest is not in the bag")
	}
	for _, name := range []string{bag.Declaration, bag.Info, bag.CheckpointTxt, bag.LogKey, bag.CustodyLog, bag.Report, bag.PayloadSums, bag.TagSums, bag.Signature} {
		if c.others[name] == nil && !c.rec.named(name) {
			c.rec.add(BagMissing, name, "the file is not in the bag")
		}
	}
	c.unlisted()
}

// unlisted adds a finding for each file that is in no list.
func (c *checker) unlisted() {
	judge := func(name string, s slot) {
		if *s.at != 0 && !*s.listed && c.listed[index(isPayload(name))] && name != bag.TagSums && name != bag.Signature && !c.rec.named(name) {
			c.rec.add(BagUnlisted, name, "the file is in no list of the bag: it was added")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.others)) {
		judge(name, c.others[name].slot())
	}
	for i := range c.custody.entries {
		if e := &c.custody.entries[i]; e.file.at != 0 && !e.file.listed {
			judge(bag.ProofPath(e.name()), e.file.slot())
		}
	}
	for _, s := range c.capture.order {
		judge(s.path, s.file.slot())
		for i := range int64(s.segs.n) {
			if g := s.segs.get(i); g.at != 0 && !g.listed {
				judge(c.capture.segmentPath(s, i), slot{sum: &g.ct, at: &g.at, listed: &g.listed, sealed: true})
			}
		}
	}
}

// signature checks the statement that covers every byte of the bag.
func (c *checker) signature() {
	if c.statement == nil {
		return // finish adds the finding
	}
	good := true
	bad := func(format string, args ...any) {
		good = false
		c.rec.add(BagSignature, bag.Signature, format, args...)
	}
	key, ok := c.custody.vouched(proof.BagPurpose, dsse.SignerID(c.statement))
	if !ok {
		bad("it names a signing key that no proven entry of the log vouches for")
		return
	}
	st, err := bag.OpenStatement(c.statement, key)
	if err != nil {
		bad("it was altered: %v", err)
		return
	}
	if st.TagSums != c.tagSums {
		bad("it was made for other lists of files: the bag's files were changed and listed anew, or the signature is from another bag")
	}
	if x := c.custody.exported; c.capture.known && st.Capture != c.capture.head.Capture || x != nil && (st.Entry != x.name() || st.Export != c.custody.export.Export) {
		bad("it was made for another export (%s of %s)", st.Export, st.Capture)
	}
	if c.cp != nil && (st.Log != c.cp.Origin || st.Size != c.cp.Size) {
		bad("it was made with another checkpoint (%s at %d entries): the checkpoint was exchanged", st.Log, st.Size)
	}
	if c.custody.exported != nil && (st.Files == nil) != (c.custody.export.Format == bag.OldProfile) {
		bad("its form is not that of the format in the entry about this export, %.64q", c.custody.export.Format)
	}
	switch {
	case c.tar != nil && (st.Bag != c.tar.base || st.ModTime != c.tar.mtime):
		bad("the archive's folder or times differ from those it was written with (%s)", st.Bag)
	case c.tar == nil && st.Bag != c.folder:
		c.rec.add(BagName, c.folder, "the bag's folder was exported as %s: give it that name again", st.Bag)
	}
	c.namedFiles(st)
	c.signed = good
}

// namedFiles names the files that were changed, removed or added since the bag
// was signed, also if the lists were made anew.
func (c *checker) namedFiles(st bag.Statement) {
	if st.Files == nil {
		return // an older bag
	}
	for _, name := range slices.Sorted(maps.Keys(st.Files)) {
		f, sum := c.others[name], st.Files[name]
		switch {
		case c.rec.named(name) || f == nil && c.stopped:
		case f == nil:
			c.rec.add(BagMissing, name, "the bag was signed with this file: it was removed")
		case hexOf(f.sum) != sum:
			c.rec.add(BagChanged, name, "the bag was signed with other bytes of this file: it was changed")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.others)) {
		if st.Files[name] == "" && bag.Named(name) && !c.rec.named(name) {
			c.rec.add(BagUnlisted, name, "the bag was signed without this file: it was added")
		}
	}
}
