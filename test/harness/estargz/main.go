// Command estargz packs a layer as eStargz with the library and the settings of `ctr-remote image optimize`:
//
//	estargz TAR BLOB [FILE...]
//
// It reads the archive TAR and writes BLOB, with the named files first and the library's landmark behind them. It
// prints as JSON what BLOB's descriptor says of its table of contents, and the digest of what BLOB unpacks to.
package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log"
	"os"

	"github.com/containerd/stargz-snapshotter/estargz"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) < 3 {
		log.Fatal("usage: estargz TAR BLOB [FILE...]")
	}
	from, to, first := os.Args[1], os.Args[2], os.Args[3:]
	archive, err := os.ReadFile(from)
	check(err)
	section := io.NewSectionReader(bytes.NewReader(archive), 0, int64(len(archive)))
	blob, err := estargz.Build(section, estargz.WithPrioritizedFiles(first))
	check(err)
	packed, err := io.ReadAll(blob)
	check(err)
	// The library has the digest of what it unpacks to only then.
	check(blob.Close())
	check(os.WriteFile(to, packed, 0o600))
	check(json.NewEncoder(os.Stdout).Encode(map[string]any{
		"annotations": map[string]any{estargz.TOCJSONDigestAnnotation: blob.TOCDigest()},
		"diffId":      blob.DiffID(),
	}))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
