// Package bag writes the evidence of one capture as a BagIt 1.0 bag (RFC
// 8493) in a tar stream, with memory that does not grow with what was
// recorded: what was recorded, as it is stored and as it plays; the signed
// manifest; the custody log with a proof for each entry; the log's checkpoint;
// public keys; and a page for a person to read.
//
// The order of the files is chosen so that a verifier needs one pass: what
// vouches comes first, then what is vouched for, then the lists of hashes,
// and last one signature over those lists (see Statement). So every byte of
// the bag hangs on the log's public key: the checkpoint is signed by it, a
// "log.key" entry under it vouches for the keys that signed the manifest and
// the bag, and the "capture.exported" entry, written before the first byte of
// the bag left, commits to the custody log that the bag must hold.
package bag

import (
	"fmt"
	"path"
	"regexp"
	"strings"

	"github.com/openova-io/bp-relay/services/capture/manifest"
)

// The files of a bag, in the order in which they come in the tar. Between
// them come KeyPath, ProofPath, ManifestPath, all SegmentPath, all
// PlayablePath.
const (
	Declaration   = "bagit.txt"
	Info          = "bag-info.txt"
	CheckpointTxt = "evidence/checkpoint"
	LogKey        = "evidence/keys/log.vkey"
	CustodyLog    = "data/custody.jsonl"
	Report        = "data/report.html"
	Crate         = "ro-crate-metadata.json"
	PayloadSums   = "manifest-sha256.txt"
	TagSums       = "tagmanifest-sha256.txt"
	Signature     = "evidence/bag.dsse.json"

	keysDir   = "evidence/keys/"
	proofsDir = "evidence/proofs/"
	mediaDir  = "data/recordings/"
)

// DeclarationText is the bag declaration of RFC 8493, section 2.1.1.
const DeclarationText = "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"

// Profile names this layout in bag-info.txt and in the exported entry.
const Profile = "bp-relay-evidence-bag/1"

// ManifestPath is where a capture's DSSE envelope is; id is the last part of
// the capture's name.
func ManifestPath(id string) string { return mediaDir + id + "/manifest.dsse.json" }

// SegmentPath is where a segment's ciphertext is.
func SegmentPath(id, stream string, s manifest.Segment) string {
	return fmt.Sprintf("%s%s/segments/%s/%08d-%s.age", mediaDir, id, stream, s.Seq, s.CipherSHA256)
}

// PlayablePath is where a stream's decrypted file is.
func PlayablePath(id, stream, ext string) string {
	return mediaDir + id + "/playable/" + stream + ext
}

// ProofPath is where an entry's inclusion proof is.
func ProofPath(leafID string) string { return proofsDir + leafID + ".tlog-proof" }

// KeyPath is where a signing key's PEM is, for people and other tools; key is
// the raw public key.
func KeyPath(purpose string, key []byte) string {
	return keysDir + purpose + "-" + manifest.SHA256(key)[:16] + ".pub"
}

// CaptureID is the last part of a capture's resource name.
func CaptureID(capture string) string { return path.Base(capture) }

// Phase is the place of a file in the tar: it never falls from one file to
// the next. Files that no bag of ours holds come with the payload or the tags.
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

// Phases is how many values Phase has.
const Phases = 14

// SafeName says whether name can be a file of a bag: relative, clean, no
// backslash, no control character, no drive or home prefix, at most 1024
// bytes (RFC 8493, section 5.2: tools must not be led out of the bag).
func SafeName(name string) bool {
	if name == "" || name == "." || len(name) > 1024 || path.Clean(name) != name || strings.HasPrefix(name, "/") ||
		name == ".." || strings.HasPrefix(name, "../") || strings.HasPrefix(name, "~") || strings.ContainsAny(name, "\\:") {
		return false
	}
	return strings.IndexFunc(name, func(r rune) bool { return r < 0x20 || r == 0x7f || r == '\ufffd' }) < 0
}

// EncodePath is a path as bag manifests write it: only CR, LF and % are
// percent-encoded (RFC 8493, section 2.1.3).
func EncodePath(name string) string {
	return strings.NewReplacer("%", "%25", "\n", "%0A", "\r", "%0D").Replace(name)
}

// DecodePath undoes EncodePath.
func DecodePath(name string) string {
	return strings.NewReplacer("%25", "%", "%0A", "\n", "%0a", "\n", "%0D", "\r", "%0d", "\r").Replace(name)
}

// SumLine is one line of a bag manifest.
func SumLine(sum, name string) string { return sum + "  " + EncodePath(name) + "\n" }

// names are the parts of a manifest that become file names. They are checked
// even though the manifest is signed: a bag must not lead a tool astray.
type names struct{ id, stream, ext, sum *regexp.Regexp }

func nameRules() names {
	return names{
		id:     regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`),
		stream: regexp.MustCompile(`^[a-z0-9-]{1,64}$`),
		ext:    regexp.MustCompile(`^(\.[a-z0-9]{1,16})?$`),
		sum:    regexp.MustCompile(`^[0-9a-f]{64}$`),
	}
}

// CheckNames refuses a manifest whose names cannot be file names of a bag, or
// whose lengths cannot be lengths.
func CheckNames(m manifest.Manifest) error {
	r := nameRules()
	if !r.id.MatchString(CaptureID(m.Capture)) {
		return fmt.Errorf("capture %q cannot be a folder's name", m.Capture)
	}
	for _, s := range m.Streams {
		if !r.stream.MatchString(s.Name) || !r.ext.MatchString(s.Ext) {
			return fmt.Errorf("stream %q%q cannot be a file's name", s.Name, s.Ext)
		}
		if s.Bytes < 0 || s.CipherBytes < 0 {
			return fmt.Errorf("stream %s: a negative length", s.Name)
		}
		for _, g := range s.Segments {
			if !r.sum.MatchString(g.CipherSHA256) || !r.sum.MatchString(g.PlainSHA256) {
				return fmt.Errorf("stream %s segment %d: not a lower-case hex SHA-256", s.Name, g.Seq)
			}
			if g.Seq < 0 || g.PlainLen < 0 || g.CipherLen < 0 || g.Offset < 0 {
				return fmt.Errorf("stream %s segment %d: a negative number or length", s.Name, g.Seq)
			}
		}
	}
	return nil
}
