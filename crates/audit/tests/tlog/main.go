// An independent opinion on our logs: golang.org/x/mod/sumdb/tlog and note, as Debian packages them
// (golang-go, golang-golang-x-mod-dev). Nothing of ours is in here but the layout of a bundle.
//
//	tlog bundle FOLDER   verifies an evidence bundle; exit 1 with the reason if anything is wrong
//	tlog answer          answers questions about trees, one a line, for differential tests:
//	                     push HASH; head N; inclusion I N; consistency M N; tile L I W;
//	                     and the last four with `sparse-` before them, for a tree whose nodes are made up
package main

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func main() {
	log.SetFlags(0)
	switch {
	case len(os.Args) == 3 && os.Args[1] == "bundle":
		if err := verifyBundle(os.Args[2]); err != nil {
			log.Fatal(err)
		}
	case len(os.Args) == 2 && os.Args[1] == "answer":
		answer()
	default:
		log.Fatal("usage: tlog bundle FOLDER | tlog answer")
	}
}

// cosigner checks cosignature/v1 lines (c2sp.org/tlog-cosignature), which x/mod does not know.
type cosigner struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

func (c cosigner) Name() string    { return c.name }
func (c cosigner) KeyHash() uint32 { return c.hash }
func (c cosigner) Verify(msg, sig []byte) bool {
	if len(sig) != 8+ed25519.SignatureSize {
		return false
	}
	signed := fmt.Sprintf("cosignature/v1\ntime %d\n%s", binary.BigEndian.Uint64(sig), msg)
	return ed25519.Verify(c.key, []byte(signed), sig[8:])
}

func newCosigner(vkey string) (note.Verifier, error) {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 {
		return nil, fmt.Errorf("not a vkey: %q", vkey)
	}
	key, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(key) != 33 || key[0] != 4 {
		return nil, fmt.Errorf("not the key of a witness: %q", vkey)
	}
	sum := sha256.Sum256(append([]byte(parts[0]+"\n"), key...))
	if hex.EncodeToString(sum[:4]) != parts[1] {
		return nil, fmt.Errorf("the hash does not belong to the key: %q", vkey)
	}
	return cosigner{parts[0], binary.BigEndian.Uint32(sum[:4]), key[1:]}, nil
}

func verifyBundle(dir string) error {
	manifest, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		return err
	}
	var m struct{ Logs []string }
	if err := json.Unmarshal(manifest, &m); err != nil {
		return err
	}
	if len(m.Logs) == 0 {
		return fmt.Errorf("the manifest names no log")
	}
	for _, name := range m.Logs {
		entries, err := verifyLog(filepath.Join(dir, name))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		fmt.Printf("%s: %d entries\n", name, entries)
	}
	return nil
}

func verifyLog(dir string) (int, error) {
	tree, checkpoint, err := openCheckpoint(dir)
	if err != nil {
		return 0, err
	}
	events, err := os.ReadFile(filepath.Join(dir, "events.jsonl"))
	if err != nil {
		return 0, err
	}
	thr := tlog.TileHashReader(tree, tiles(dir))
	count := 0
	for _, line := range bytes.Split(bytes.TrimSuffix(events, []byte("\n")), []byte("\n")) {
		var event struct {
			Index    int64
			LeafHash string `json:"leaf_hash"`
			Leaf     json.RawMessage
		}
		if err := json.Unmarshal(line, &event); err != nil {
			return 0, err
		}
		hash := tlog.RecordHash(event.Leaf)
		if event.LeafHash != "sha256:"+hex.EncodeToString(hash[:]) {
			return 0, fmt.Errorf("entry %d: the leaf has another hash", event.Index)
		}
		proof, err := readProof(filepath.Join(dir, "proofs", fmt.Sprintf("%d.tlog-proof", event.Index)), event.Index, checkpoint)
		if err != nil {
			return 0, err
		}
		if err := tlog.CheckRecord(proof, tree.N, tree.Hash, event.Index, hash); err != nil {
			return 0, fmt.Errorf("entry %d: %w", event.Index, err)
		}
		again, err := tlog.ProveRecord(tree.N, event.Index, thr)
		if err != nil {
			return 0, fmt.Errorf("entry %d, from tiles: %w", event.Index, err)
		}
		if fmt.Sprint(again) != fmt.Sprint(proof) {
			return 0, fmt.Errorf("entry %d: the tiles give another proof", event.Index)
		}
		count++
	}
	return count, nil
}

// openCheckpoint checks the signature of the log and of every witness that the policy names.
func openCheckpoint(dir string) (tlog.Tree, []byte, error) {
	var tree tlog.Tree
	policy, err := os.ReadFile(filepath.Join(dir, "policy"))
	if err != nil {
		return tree, nil, err
	}
	vkey, err := os.ReadFile(filepath.Join(dir, "vkey"))
	if err != nil {
		return tree, nil, err
	}
	key, err := note.NewVerifier(strings.TrimSuffix(string(vkey), "\n"))
	if err != nil {
		return tree, nil, err
	}
	verifiers := []note.Verifier{key}
	for _, line := range strings.Split(string(policy), "\n") {
		if words := strings.Fields(line); len(words) >= 3 && words[0] == "witness" {
			witness, err := newCosigner(words[2])
			if err != nil {
				return tree, nil, err
			}
			verifiers = append(verifiers, witness)
		}
	}
	checkpoint, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	if err != nil {
		return tree, nil, err
	}
	opened, err := note.Open(checkpoint, note.VerifierList(verifiers...))
	if err != nil {
		return tree, nil, err
	}
	if len(opened.Sigs) != len(verifiers) {
		return tree, nil, fmt.Errorf("%d of %d signatures are there", len(opened.Sigs), len(verifiers))
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[0] != key.Name() {
		return tree, nil, fmt.Errorf("not a checkpoint of %s", key.Name())
	}
	if tree.N, err = strconv.ParseInt(lines[1], 10, 64); err != nil {
		return tree, nil, err
	}
	tree.Hash, err = tlog.ParseHash(lines[2])
	return tree, checkpoint, err
}

// readProof reads a c2sp.org/tlog-proof file, whose checkpoint must be the one of the bundle.
func readProof(path string, index int64, checkpoint []byte) (tlog.RecordProof, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	head, rest, found := bytes.Cut(text, []byte("\n\n"))
	if !found || !bytes.Equal(rest, checkpoint) {
		return nil, fmt.Errorf("%s: another checkpoint", path)
	}
	lines := strings.Split(string(head), "\n")
	if lines[0] != "c2sp.org/tlog-proof@v1" {
		return nil, fmt.Errorf("%s: not a proof", path)
	}
	lines = lines[1:]
	if strings.HasPrefix(lines[0], "extra ") {
		lines = lines[1:]
	}
	if lines[0] != fmt.Sprintf("index %d", index) {
		return nil, fmt.Errorf("%s: of another entry", path)
	}
	var proof tlog.RecordProof
	for _, line := range lines[1:] {
		hash, err := tlog.ParseHash(line)
		if err != nil {
			return nil, err
		}
		proof = append(proof, hash)
	}
	return proof, nil
}

// tiles reads tiles in the layout of c2sp.org/tlog-tiles: that of x/mod without the height.
type tiles string

func (t tiles) Height() int                        { return 8 }
func (t tiles) SaveTiles(_ []tlog.Tile, _ [][]byte) {}
func (t tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range wanted {
		path := strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
		data, err := os.ReadFile(filepath.Join(string(t), path))
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}

// memory has the stored hashes of a tree of pushed leaves.
type memory []tlog.Hash

func (m memory) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var hashes []tlog.Hash
	for _, index := range indexes {
		hashes = append(hashes, m[index])
	}
	return hashes, nil
}

// sparse makes up the hash of every node from its level and place.
type sparse struct{}

func (sparse) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var hashes []tlog.Hash
	for _, index := range indexes {
		level, n := tlog.SplitStoredHashIndex(index)
		hashes = append(hashes, sha256.Sum256([]byte(fmt.Sprintf("%d/%d", level, n))))
	}
	return hashes, nil
}

func answer() {
	var stored memory
	pushed := int64(0)
	in, out := bufio.NewScanner(os.Stdin), bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for in.Scan() {
		words := strings.Fields(in.Text())
		if words[0] == "push" {
			var leaf tlog.Hash
			if _, err := hex.Decode(leaf[:], []byte(words[1])); err != nil {
				log.Fatal(err)
			}
			hashes, err := tlog.StoredHashesForRecordHash(pushed, leaf, stored)
			if err != nil {
				log.Fatal(err)
			}
			stored, pushed = append(stored, hashes...), pushed+1
			continue
		}
		var numbers []int64
		for _, word := range words[1:] {
			number, err := strconv.ParseInt(word, 10, 64)
			if err != nil {
				log.Fatal(err)
			}
			numbers = append(numbers, number)
		}
		var reader tlog.HashReader = stored
		question := strings.TrimPrefix(words[0], "sparse-")
		if question != words[0] {
			reader = sparse{}
		}
		text, err := one(question, numbers, reader)
		if err != nil {
			log.Fatalf("%s: %v", in.Text(), err)
		}
		fmt.Fprintln(out, text)
	}
}

func one(question string, n []int64, reader tlog.HashReader) (string, error) {
	switch question {
	case "head":
		head, err := tlog.TreeHash(n[0], reader)
		return hex.EncodeToString(head[:]), err
	case "inclusion":
		proof, err := tlog.ProveRecord(n[1], n[0], reader)
		return list(proof), err
	case "consistency":
		proof, err := tlog.ProveTree(n[1], n[0], reader)
		return list(proof), err
	case "tile":
		data, err := tlog.ReadTileData(tlog.Tile{H: 8, L: int(n[0]), N: n[1], W: int(n[2])}, reader)
		return hex.EncodeToString(data), err
	}
	return "", fmt.Errorf("no such question")
}

func list(proof []tlog.Hash) string {
	var words []string
	for _, hash := range proof {
		words = append(words, hex.EncodeToString(hash[:]))
	}
	return strings.Join(words, " ")
}
