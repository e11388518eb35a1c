package witness

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"
)

// store keeps raft's log, term and vote in one bbolt file. raft-boltdb/v2 does
// not build with this raft's metrics, and raft-wal, made for thousands of entries
// a second, brings a log format of its own for the few that witnesses write.
type store struct{ db *bbolt.DB }

var (
	logBucket    = []byte("log 1")
	stableBucket = []byte("stable 1")

	// errNotFound has the words that raft compares with.
	errNotFound = errors.New("not found")
)

func openStore(dir string) (*store, error) {
	path := filepath.Join(dir, "raft.db")
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: 5 * time.Second})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(logBucket)
		_, err2 := tx.CreateBucketIfNotExists(stableBucket)
		return errors.Join(err, err2)
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("prepare %s: %w", path, err), db.Close())
	}
	return &store{db}, nil
}

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// FirstIndex is the first entry's, 0 if there is none.
func (s *store) FirstIndex() (uint64, error) { return s.end((*bbolt.Cursor).First) }

// LastIndex is the last entry's, 0 if there is none.
func (s *store) LastIndex() (uint64, error) { return s.end((*bbolt.Cursor).Last) }

func (s *store) end(of func(*bbolt.Cursor) ([]byte, []byte)) (index uint64, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		if key, _ := of(tx.Bucket(logBucket).Cursor()); key != nil {
			index = binary.BigEndian.Uint64(key)
		}
		return nil
	})
	return index, err
}

// GetLog reads the entry with that index into log.
func (s *store) GetLog(index uint64, log *raft.Log) error {
	return s.db.View(func(tx *bbolt.Tx) error {
		data := tx.Bucket(logBucket).Get(number(index))
		if data == nil {
			return raft.ErrLogNotFound
		}
		return json.Unmarshal(data, log)
	})
}

// StoreLog writes one entry.
func (s *store) StoreLog(log *raft.Log) error { return s.StoreLogs([]*raft.Log{log}) }

// StoreLogs writes all of them, or none, to the disk.
func (s *store) StoreLogs(logs []*raft.Log) error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		for _, log := range logs {
			data, err := json.Marshal(log)
			if err != nil {
				return err
			}
			if err := tx.Bucket(logBucket).Put(number(log.Index), data); err != nil {
				return err
			}
		}
		return nil
	})
}

// DeleteRange removes the entries from first to last, both included.
func (s *store) DeleteRange(first, last uint64) error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket(logBucket)
		var keys [][]byte // bbolt's cursors skip entries where one deletes under them
		cursor := bucket.Cursor()
		for key, _ := cursor.Seek(number(first)); key != nil && binary.BigEndian.Uint64(key) <= last; key, _ = cursor.Next() {
			keys = append(keys, key)
		}
		for _, key := range keys {
			if err := bucket.Delete(key); err != nil {
				return err
			}
		}
		return nil
	})
}

// Set keeps a value.
func (s *store) Set(key, value []byte) error {
	return s.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(stableBucket).Put(key, value) })
}

// Get is the value that was set last, or an error in the words that raft compares with.
func (s *store) Get(key []byte) (value []byte, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		found := tx.Bucket(stableBucket).Get(key)
		if found == nil {
			return errNotFound
		}
		value = append(value, found...)
		return nil
	})
	return value, err
}

// SetUint64 keeps a number.
func (s *store) SetUint64(key []byte, n uint64) error { return s.Set(key, number(n)) }

// GetUint64 is the number that was set last.
func (s *store) GetUint64(key []byte) (uint64, error) {
	value, err := s.Get(key)
	if err != nil {
		return 0, err
	}
	if len(value) != 8 {
		return 0, fmt.Errorf("raft's %q has %d bytes, want 8", key, len(value))
	}
	return binary.BigEndian.Uint64(value), nil
}
