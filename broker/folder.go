package broker

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/stratabroker/strata/broker/vfs"
	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/protocol"
)

// folderFormat is the newest layout of a data folder that this binary writes.
const folderFormat = 1

const (
	lockFile    = ".lock"
	metaFile    = "meta.properties" // Kafka's name and form, with strata.format beside
	metadataDir = "strata-metadata"
	epochFile   = "strata-broker-epoch" // the last broker epoch this folder was given
)

// folder is the data directory of this process: locked, and known by name.
type folder struct {
	path      string
	id        metadata.DirectoryID
	clusterID string // "" until the cluster is known
	node      protocol.BrokerID
	unlock    func() error
}

// openFolder locks the folder, makes it if missing and reads who it belongs
// to. Errors name the folder and what is wrong in one line.
//
// prepare is called once it is locked, before anything else is read or written there.
func openFolder(path string, node protocol.BrokerID, prepare func(*folder) error) (*folder, error) {
	if err := makeFolder(path); err != nil {
		return nil, fmt.Errorf("data folder %s cannot be made: %w", path, err)
	}
	unlock, err := vfs.Lock(filepath.Join(path, lockFile))
	if err != nil {
		return nil, fmt.Errorf("data folder %s: %w", path, err)
	}
	f := &folder{path: path, node: node, unlock: unlock}
	if err = prepare(f); err == nil {
		err = f.readMeta()
	}
	if err == nil {
		err = f.removeSpools()
	}
	if err != nil {
		return nil, errors.Join(err, unlock())
	}
	return f, nil
}

// makeFolder makes a folder and its parents, their names durable.
func makeFolder(path string) error {
	if _, err := os.Stat(path); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(path)
	if err := makeFolder(parent); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return vfs.OS().SyncDir(parent)
}

func (f *folder) readMeta() error {
	raw, err := os.ReadFile(filepath.Join(f.path, metaFile))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(f.path, metadataDir)); err == nil {
			return fmt.Errorf("data folder %s: %s is missing beside %s: put it back, or start with an empty folder", f.path, metaFile, metadataDir)
		}
		_, _ = rand.Read(f.id[:]) // crypto/rand never fails
		return f.writeMeta("")
	}
	if err != nil {
		return fmt.Errorf("data folder %s: %w", f.path, err)
	}
	props, err := metadata.ReadProperties(bytes.NewReader(raw))
	if err != nil {
		return fmt.Errorf("data folder %s: %s: %w", f.path, metaFile, err)
	}
	format, err := strconv.Atoi(props["strata.format"])
	switch {
	case err != nil:
		return fmt.Errorf("data folder %s: %s has no strata.format: the folder is another program's", f.path, metaFile)
	case format > folderFormat:
		return fmt.Errorf("data folder %s has format %d, this binary knows formats up to %d: use a newer strata", f.path, format, folderFormat)
	case props["node.id"] != strconv.Itoa(int(f.node)):
		return fmt.Errorf("data folder %s belongs to node.id=%s, this is node.id=%d", f.path, props["node.id"], f.node)
	}
	id, err := base64.RawURLEncoding.DecodeString(props["directory.id"])
	if err != nil || len(id) != len(f.id) {
		return fmt.Errorf("data folder %s: directory.id=%s in %s is not an id", f.path, props["directory.id"], metaFile)
	}
	f.id, f.clusterID = metadata.DirectoryID(id), props["cluster.id"]
	return nil
}

// writeMeta records the cluster; durable on return.
func (f *folder) writeMeta(cluster string) error {
	f.clusterID = cluster
	var b strings.Builder
	fmt.Fprintf(&b, "version=1\nstrata.format=%d\nnode.id=%d\ndirectory.id=%s\n", folderFormat, f.node, base64.RawURLEncoding.EncodeToString(f.id[:]))
	if cluster != "" {
		fmt.Fprintf(&b, "cluster.id=%s\n", cluster)
	}
	if err := vfs.WriteFileAtomic(vfs.OS(), filepath.Join(f.path, metaFile), []byte(b.String())); err != nil {
		return fmt.Errorf("data folder %s is not writable: %w", f.path, err)
	}
	return nil
}

// brokerEpoch is the last epoch that was recorded, -1 for none or one that cannot be read.
func (f *folder) brokerEpoch() protocol.BrokerEpoch {
	raw, err := os.ReadFile(filepath.Join(f.path, epochFile))
	if err != nil {
		return -1
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(raw)), 10, 64)
	if err != nil {
		return -1
	}
	return protocol.BrokerEpoch(n)
}

// setBrokerEpoch records the epoch; durable on return (DESIGN D12: before the broker serves).
func (f *folder) setBrokerEpoch(e protocol.BrokerEpoch) error {
	return vfs.WriteFileAtomic(vfs.OS(), filepath.Join(f.path, epochFile), fmt.Appendf(nil, "%d\n", e))
}

// bootID names the running boot of this machine; "" where the system has none.
func bootID() string {
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(raw))
}
