package dir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/stratabroker/strata/tiering/object"
)

// List implements object.Store. It removes temporary files of dead writers on
// its way.
func (s *Store) List(ctx context.Context, prefix, after string) iter.Seq2[object.Info, error] {
	return func(yield func(object.Info, error) bool) {
		err := object.CheckPrefix(prefix)
		if err == nil {
			err = s.check()
		}
		if err == nil {
			l := listing{store: s, ctx: ctx, prefix: prefix, after: after, yield: yield}
			folder, _ := path.Split(prefix) // only below it can keys have the prefix
			if err = l.walk(folder); err == nil {
				err = s.check() // what was missing may be there still
			}
		}
		if err != nil && !errors.Is(err, errStopped) {
			yield(object.Info{}, fmt.Errorf("list %s: %w", prefix, err))
		}
	}
}

// errStopped ends a walk whose consumer has seen enough.
var errStopped = fs.SkipAll

type listing struct {
	store         *Store
	ctx           context.Context
	prefix, after string
	yield         func(object.Info, error) bool
}

// walk lists what lies below folder, "" or a key part that ends in "/".
func (l *listing) walk(folder string) error {
	if err := l.ctx.Err(); err != nil {
		return err
	}
	entries, err := os.ReadDir(l.store.path(folder))
	if missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	// In the order of keys a folder stands where its name with "/" does: "a-b"
	// comes before "a/b" although the folder "a" comes before the file "a-b".
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		switch {
		case e.IsDir():
			names = append(names, e.Name()+"/")
		case isTemp(e.Name()):
			if err := l.store.removeStale(l.store.path(folder + e.Name())); err != nil {
				return err
			}
		case !isOwn(e.Name()):
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	for _, name := range names {
		if err := l.visit(folder + name); err != nil {
			return err
		}
	}
	return nil
}

// enters tells whether keys below folder (which ends in "/") may be listed.
func (l *listing) enters(folder string) bool {
	if object.CheckPrefix(folder) != nil {
		return false // not ours
	}
	if !strings.HasPrefix(folder, l.prefix) && !strings.HasPrefix(l.prefix, folder) {
		return false
	}
	return folder >= l.after || strings.HasPrefix(l.after, folder) // else all lie below after
}

func (l *listing) wants(key string) bool {
	return strings.HasPrefix(key, l.prefix) && key > l.after && object.CheckKey(key) == nil
}

// visit lists one object, or what lies below one folder (key ends in "/").
func (l *listing) visit(key string) error {
	if strings.HasSuffix(key, "/") {
		if l.enters(key) {
			return l.walk(key)
		}
		return nil
	}
	if !l.wants(key) {
		return nil
	}
	info, err := os.Lstat(l.store.path(key))
	if missing(err) {
		return nil // deleted meanwhile
	}
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return nil
	}
	if !l.yield(object.Info{Key: key, Size: info.Size(), Modified: info.ModTime()}, nil) {
		return errStopped
	}
	return nil
}
