package bag

import (
	"encoding/json"
	"fmt"
	"time"
)

// crate returns ro-crate-metadata.json (RO-Crate 1.1, JSON-LD), from which
// archives can catalogue the bag.
func (in Input) crate() ([]byte, error) {
	type node map[string]any
	ref := func(id string) node { return node{"@id": id} }
	m := in.Manifest
	parts := []node{ref(Report), ref(CustodyLog)}
	graph := []node{
		{"@id": Crate, "@type": "CreativeWork", "about": ref("./"), "conformsTo": ref("https://w3id.org/ro/crate/1.1")},
		{"@id": Report, "@type": "File", "name": "Report to read", "encodingFormat": "text/html"},
		{"@id": CustodyLog, "@type": "File", "name": "Custody log", "encodingFormat": "application/jsonl"},
	}
	for _, s := range m.Streams {
		id := PlayablePath(CaptureID(m.Capture), s.Name, s.Ext)
		parts = append(parts, ref(id))
		graph = append(graph, node{"@id": id, "@type": "File", "name": s.Name, "encodingFormat": s.MediaType, "contentSize": fmt.Sprint(s.Bytes)})
	}
	graph = append(graph, node{
		"@id": "./", "@type": "Dataset", "name": "Evidence of " + m.Capture, "identifier": in.Export,
		"description":   "Recording with custody log, proofs and signatures; see " + Report,
		"datePublished": in.Time.UTC().Format(time.RFC3339), "hasPart": parts,
	})
	out, err := json.MarshalIndent(node{"@context": "https://w3id.org/ro/crate/1.1/context", "@graph": graph}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("ro-crate metadata: %w", err)
	}
	return append(out, '\n'), nil
}
