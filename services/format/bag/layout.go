// Package bag writes the evidence of one capture as a BagIt 1.0 bag (RFC 8493)
// in a tar stream: the stored segments and the playable files, the signed
// manifest, the custody log with a proof for each entry, the log's checkpoint,
// public keys, and a page for people. Its memory does not grow with the
// recorded bytes.
//
// The order of the files lets a verifier work in one pass: signatures and
// proofs come first, then what they cover, then the lists of hashes, and last
// one signature over those lists (see Statement). So the log's public key
// covers every byte of the bag: it verifies the checkpoint; a "log.key" entry
// under the checkpoint vouches for the keys that signed the manifest and the
// bag; and the "capture.exported" entry, logged before the first byte of the
// bag is sent, commits to the custody log that the bag must hold.
package bag

import (
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/openova-io/bp-relay/services/format/manifest"
)

// The files of a bag with fixed names. Phase defines the order in the tar, in
// which the files of KeyPath, ProofPath, ManifestPath, SegmentPath and
// PlayablePath come between them.
const (
	Declaration   = "bagit.txt"
	Info          = "bag-info.txt"
	CheckpointTxt = "evidence/checkpoint"
	LogKey        = "evidence/keys/log.vkey"
	CustodyLog    = "data/custody.jsonl"
	Report        = "data/report.html"
	Damaged       = "data/damaged.jsonl" // only in a bag that lacks something
	Crate         = "ro-crate-metadata.json"
	PayloadSums   = "manifest-sha256.txt"
	TagSums       = "tagmanifest-sha256.txt"
	Signature     = "evidence/bag.dsse.json"

	keysDir   = "evidence/keys/"
	proofsDir = "evidence/proofs/"
	mediaDir  = "data/recordings/"
)

// DeclarationText is the bag declaration (RFC 8493 §2.1.1).
const DeclarationText = "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"

// Profile names this layout in bag-info.txt and in the entry about the export.
// OldProfile is the first one: bag-info.txt was the second file, and the bag's
// signature listed no files.
const (
	Profile    = "bp-relay-evidence-bag/2"
	OldProfile = "bp-relay-evidence-bag/1"
)

// ManifestPath is the path of a capture's DSSE envelope; id is CaptureID.
func ManifestPath(id string) string { return mediaDir + id + "/manifest.dsse.json" }

// SegmentPath is the path of a segment's ciphertext.
func SegmentPath(id, stream string, s manifest.Segment) string {
	return fmt.Sprintf("%s%s/segments/%s/%08d-%s.age", mediaDir, id, stream, s.Seq, s.CipherSHA256)
}

// PlayablePath is the path of a stream's decrypted file.
func PlayablePath(id, stream, ext string) string {
	return mediaDir + id + "/playable/" + stream + ext
}

// ProofPath is the path of an entry's inclusion proof.
func ProofPath(leafID string) string { return proofsDir + leafID + ".tlog-proof" }

// KeyPath is the path of a signing key's PEM, for people and other tools; key
// is the raw public key.
func KeyPath(purpose string, key []byte) string {
	return keysDir + purpose + "-" + manifest.SHA256(key)[:16] + ".pub"
}

// CaptureID is the last part of a capture's resource name.
func CaptureID(capture string) string { return path.Base(capture) }

// Phase is the rank of a file in the tar, 0 to Phases-1; it never decreases
// from one file to the next, except at Info: its counts are known late, and in a
// bag of OldProfile it comes second. An unknown file ranks with the payload or
// the tag files.
func Phase(name string) int {
	switch {
	case name == Declaration:
		return 0
	case name == Info:
		return 1
	case name == CheckpointTxt:
		return 2
	case strings.HasPrefix(name, keysDir):
		return 3
	case name == CustodyLog:
		return 4
	case strings.HasPrefix(name, proofsDir):
		return 5
	case strings.HasPrefix(name, mediaDir) && strings.HasSuffix(name, "/manifest.dsse.json"):
		return 6
	case strings.HasPrefix(name, mediaDir) && strings.Contains(name, "/segments/"):
		return 7
	case strings.HasPrefix(name, mediaDir):
		return 8
	case strings.HasPrefix(name, "data/"):
		return 9
	case name == PayloadSums:
		return 11
	case name == TagSums:
		return 12
	case name == Signature:
		return 13
	}
	return 10
}

// Named reports whether Statement.Files has the file: nothing else in the bag
// commits to its bytes and its name.
func Named(name string) bool {
	switch Phase(name) {
	case 5, 7, 8, 12, 13:
		return false
	}
	return true
}

// Phases is the number of values of Phase.
const Phases = 14

// SafeName reports whether name can be the path of a file in a bag: relative,
// clean, 1 to 1024 bytes, without backslash, control character, drive or home
// prefix (RFC 8493 §5.2: paths must not lead out of the bag).
func SafeName(name string) bool {
	if name == "" || name == "." || len(name) > 1024 || path.Clean(name) != name || strings.HasPrefix(name, "/") ||
		name == ".." || strings.HasPrefix(name, "../") || strings.HasPrefix(name, "~") || strings.ContainsAny(name, "\\:") {
		return false
	}
	return strings.IndexFunc(name, func(r rune) bool { return r < 0x20 || r == 0x7f || r == '\ufffd' }) < 0
}

// EncodePath returns a path in the form of bag manifests: only CR, LF and % are
// percent-encoded (RFC 8493 §2.1.3).
func EncodePath(name string) string {
	return strings.NewReplacer("%", "%25", "\n", "%0A", "\r", "%0D").Replace(name)
}

// DecodePath undoes EncodePath.
func DecodePath(name string) string {
	return strings.NewReplacer("%25", "%", "%0A", "\n", "%0a", "\n", "%0D", "\r", "%0d", "\r").Replace(name)
}

// SumLine is one line of a bag manifest.
func SumLine(sum, name string) string { return sum + "  " + EncodePath(name) + "\n" }

// MaxSegment bounds a segment, stored or played, in bytes: twice what a
// recorder writes.
const MaxSegment = 8 << 20

// Names checks the parts of a manifest that become file names, although the
// manifest is signed: a path must not lead a tool out of the bag. It also checks
// that numbers and lengths are not negative.
type Names struct{ id, stream, ext, sum *regexp.Regexp }

// NewNames returns the rules.
func NewNames() Names {
	return Names{
		id:     regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`),
		stream: regexp.MustCompile(`^[a-z0-9-]{1,64}$`),
		ext:    regexp.MustCompile(`^(\.[a-z0-9]{1,16})?$`),
		sum:    regexp.MustCompile(`^[0-9a-f]{64}$`),
	}
}

// Capture checks the capture's name.
func (n Names) Capture(name string) error {
	if !n.id.MatchString(CaptureID(name)) {
		return fmt.Errorf("the id of capture %q cannot be the name of a folder", name)
	}
	return nil
}

// Stream checks a stream without its segments.
func (n Names) Stream(s manifest.StreamManifest) error {
	if !n.stream.MatchString(s.Name) || !n.ext.MatchString(s.Ext) {
		return fmt.Errorf("stream %q with extension %q cannot be the name of a file", s.Name, s.Ext)
	}
	if s.Bytes < 0 || s.CipherBytes < 0 {
		return fmt.Errorf("stream %s: negative length", s.Name)
	}
	return nil
}

// Segment checks one segment of a stream.
func (n Names) Segment(stream string, g manifest.Segment) error {
	switch {
	case !n.sum.MatchString(g.CipherSHA256) || !n.sum.MatchString(g.PlainSHA256):
		return fmt.Errorf("stream %s segment %d: want hashes as lower-case hex SHA-256", stream, g.Seq)
	case g.Seq < 0 || g.PlainLen < 0 || g.CipherLen < 0 || g.Offset < 0:
		return fmt.Errorf("stream %s segment %d: negative number or length", stream, g.Seq)
	case g.PlainLen > MaxSegment || g.CipherLen > MaxSegment:
		return fmt.Errorf("stream %s segment %d: longer than %d bytes", stream, g.Seq, MaxSegment)
	}
	return nil
}

// CheckNames applies Names to a whole manifest.
func CheckNames(m manifest.Manifest) error {
	n := NewNames()
	if err := n.Capture(m.Capture); err != nil {
		return err
	}
	for _, s := range m.Streams {
		if err := n.Stream(s); err != nil {
			return err
		}
		for _, g := range s.Segments {
			if err := n.Segment(s.Name, g); err != nil {
				return err
			}
		}
	}
	return nil
}

// SplitSegmentPath undoes SegmentPath: it returns the capture's id, the stream,
// the number, and the hash in hex.
func SplitSegmentPath(name string) (id, stream string, seq int64, sum string, ok bool) {
	rest, ok := strings.CutPrefix(name, mediaDir)
	parts := strings.Split(rest, "/")
	if !ok || len(parts) != 4 || parts[1] != "segments" {
		return "", "", 0, "", false
	}
	num, sum, ok := strings.Cut(strings.TrimSuffix(parts[3], ".age"), "-")
	seq, err := strconv.ParseInt(num, 10, 64)
	if !ok || err != nil || seq < 0 {
		return "", "", 0, "", false
	}
	g := manifest.Segment{Seq: seq, CipherSHA256: sum}
	return parts[0], parts[2], seq, sum, SegmentPath(parts[0], parts[2], g) == name
}
