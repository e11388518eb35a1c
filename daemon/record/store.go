package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// storeFormat is the version of the store's layout. A store of a newer version
// is refused, never rewritten.
const storeFormat = 1

// saveEvery is how long changes may wait for company before one fsync writes
// them all. What runs is also known from /run/shoal, so a daemon that is killed
// in between loses nothing; a power cut loses at most this much of the record.
const saveEvery = 50 * time.Millisecond

// ErrNewer says that the store was written by a newer version of Shoal.
var ErrNewer = errors.New("written by a newer version of shoal")

var (
	metaBucket    = []byte("meta")
	recordsBucket = []byte("records")
	entriesBucket = []byte("entries")
	headKey       = []byte("head")
)

// Store keeps records on disk (bbolt). Save queues; one writer commits what
// has gathered with one fsync.
type Store struct {
	db    *bolt.DB
	log   *slog.Logger
	queue chan func(*bolt.Tx) error
	flush chan chan error
	stop  chan struct{}
	done  chan struct{}
}

// Open opens or makes the store. A damaged file is moved aside to
// PATH.damaged-TIME, which is said in the log, and an empty store takes its
// place; a file of a newer format is ErrNewer and is left alone.
func Open(path string, log *slog.Logger) (*Store, error) {
	db, err := openDB(path)
	if errors.Is(err, ErrNewer) || errors.Is(err, bolt.ErrTimeout) || errors.Is(err, os.ErrPermission) {
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	if err != nil {
		aside := path + ".damaged-" + time.Now().UTC().Format("20060102T150405.000Z")
		log.Error("store is damaged: moved aside, starting with an empty one", "path", path, "aside", aside, "err", err)
		if err := os.Rename(path, aside); err != nil {
			return nil, fmt.Errorf("move damaged store aside: %w", err)
		}
		if db, err = openDB(path); err != nil {
			return nil, fmt.Errorf("open store %s: %w", path, err)
		}
	}
	s := &Store{db: db, log: log, queue: make(chan func(*bolt.Tx) error, 1024), flush: make(chan chan error), stop: make(chan struct{}), done: make(chan struct{})}
	go s.write()
	return s, nil
}

// openDB turns bbolt's panics over damaged pages into errors.
func openDB(path string) (db *bolt.DB, err error) {
	defer func() {
		if p := recover(); p != nil {
			if db != nil {
				db.Close()
			}
			db, err = nil, fmt.Errorf("damaged: %v", p)
		}
	}()
	db, err = bolt.Open(path, 0o600, &bolt.Options{Timeout: 2 * time.Second, FreelistType: bolt.FreelistMapType})
	if err != nil {
		return nil, err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		meta, err := tx.CreateBucketIfNotExists(metaBucket)
		if err != nil {
			return err
		}
		if v := meta.Get([]byte("format")); v != nil {
			if n, err := strconv.Atoi(string(v)); err != nil || n > storeFormat {
				return fmt.Errorf("format %s, this version knows up to %d: %w", v, storeFormat, ErrNewer)
			}
		}
		if _, err := tx.CreateBucketIfNotExists(recordsBucket); err != nil {
			return err
		}
		return meta.Put([]byte("format"), []byte(strconv.Itoa(storeFormat)))
	})
	if err == nil {
		err = check(db)
	}
	if err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

// check reads every page once: a store is small, and a bad page found at start
// can still be answered.
func check(db *bolt.DB) error {
	return db.View(func(tx *bolt.Tx) error {
		var first error
		for err := range tx.Check() {
			first = errors.Join(first, err)
		}
		return first
	})
}

// Meta reads a small value, "" when there is none.
func (s *Store) Meta(name string) (value string) {
	s.db.View(func(tx *bolt.Tx) error {
		value = string(tx.Bucket(metaBucket).Get([]byte(name)))
		return nil
	})
	return value
}

// SetMeta writes a small value durably.
func (s *Store) SetMeta(name, value string) error {
	return s.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(metaBucket).Put([]byte(name), []byte(value)) })
}

// Load reads all records, by node.
func (s *Store) Load() (map[string]*Record, error) {
	records := make(map[string]*Record)
	err := s.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(recordsBucket).ForEachBucket(func(node []byte) error {
			b := tx.Bucket(recordsBucket).Bucket(node)
			var h storedHead
			if err := json.Unmarshal(b.Get(headKey), &h); err != nil {
				return fmt.Errorf("record of %s: %w", node, err)
			}
			r := &Record{Node: string(node), Incarnation: h.Incarnation, Seq: h.Seq, Floor: h.Floor, Entries: make(map[Name]Entry)}
			records[r.Node] = r
			err := b.Bucket(entriesBucket).ForEach(func(_, v []byte) error {
				var e Entry
				if err := json.Unmarshal(v, &e); err != nil {
					return fmt.Errorf("record of %s: %w", node, err)
				}
				if e.Value != nil || e.Seq > h.Floor { // else compacted since
					r.Entries[e.Name] = e
				}
				return nil
			})
			if err == nil {
				s.accept(r, h)
			}
			return err
		})
	})
	return records, err
}

// accept gives a record that was read its head. What does not fit it any more is
// of use, but asked for again: peers have it.
func (s *Store) accept(r *Record, h storedHead) {
	if h.Signature == nil {
		if h.Signed != nil {
			r.head = *h.Signed
			r.head.Node = r.Node
		}
		return
	}
	h.Node = r.Node
	if r.Root() == h.Root {
		r.head = h.Head
		return
	}
	s.log.Error("a stored record is not what its node signed: it is asked for again", "node", r.Node)
	r.Incarnation, r.Seq, r.Floor = 0, 0, 0
}

// Save queues a delta. It blocks only when the disk is far behind.
func (s *Store) Save(d Delta) {
	if len(d.Entries) > 0 || d.Whole || d.Partial || d.Head.Signature != nil {
		s.enqueue(func(tx *bolt.Tx) error { return put(tx, d) })
	}
}

// SaveMeta queues a value for SetMeta.
func (s *Store) SaveMeta(name, value string) {
	s.enqueue(func(tx *bolt.Tx) error { return tx.Bucket(metaBucket).Put([]byte(name), []byte(value)) })
}

// Forget queues that a node's record goes.
func (s *Store) Forget(node string) {
	s.enqueue(func(tx *bolt.Tx) error {
		err := tx.Bucket(recordsBucket).DeleteBucket([]byte(node))
		if errors.Is(err, bolterrors.ErrBucketNotFound) {
			return nil
		}
		return err
	})
}

// enqueue hands a change to the writer. What comes after Close is dropped: a
// peer's stream may end a moment later.
func (s *Store) enqueue(change func(*bolt.Tx) error) {
	select {
	case s.queue <- change:
	case <-s.done:
	}
}

// Flush returns when everything saved before is on disk.
func (s *Store) Flush() error {
	done := make(chan error, 1)
	s.flush <- done
	return <-done
}

// Close flushes and closes.
func (s *Store) Close() error {
	err := s.Flush()
	close(s.stop)
	<-s.done
	return errors.Join(err, s.db.Close())
}

// write commits what gathers. A failed commit (a full disk) is kept and tried
// again with the next.
func (s *Store) write() {
	defer close(s.done)
	var pending []func(*bolt.Tx) error
	var timer <-chan time.Time
	commit := func() error {
		timer = nil
		if len(pending) == 0 {
			return nil
		}
		err := s.db.Update(func(tx *bolt.Tx) error {
			for _, change := range pending {
				if err := change(tx); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			s.log.Error("can't save the record, trying again", "err", err)
			timer = time.After(time.Second)
			return err
		}
		pending = pending[:0]
		return nil
	}
	for {
		select {
		case <-s.stop:
			return
		case change := <-s.queue:
			pending = append(pending, change)
			if timer == nil {
				timer = time.After(saveEvery)
			}
		case <-timer:
			commit()
		case done := <-s.flush:
			for len(s.queue) > 0 {
				pending = append(pending, <-s.queue)
			}
			done <- commit()
		}
	}
}

// storedHead is a record's head on disk, and of one without a signature the last
// one that had one: what was changed since is a draft.
type storedHead struct {
	Head
	Signed *Head `json:"signed,omitempty"`
}

// put writes one delta into its record's bucket.
func put(tx *bolt.Tx, d Delta) error {
	records := tx.Bucket(recordsBucket)
	var before storedHead
	if old := records.Bucket([]byte(d.Node)); old != nil {
		_ = json.Unmarshal(old.Get(headKey), &before) // one that can't be read is no good either
	}
	if d.Whole && records.Bucket([]byte(d.Node)) != nil {
		if err := records.DeleteBucket([]byte(d.Node)); err != nil {
			return err
		}
	}
	b, err := records.CreateBucketIfNotExists([]byte(d.Node))
	if err != nil {
		return err
	}
	entries, err := b.CreateBucketIfNotExists(entriesBucket)
	if err != nil {
		return err
	}
	if err := clearBuckets(entries, d); err != nil {
		return err
	}
	for _, e := range d.Entries {
		name, _ := e.Name.MarshalText()
		if e.Value == nil && e.Seq <= d.Floor {
			err = entries.Delete(name)
		} else {
			v, _ := json.Marshal(e)
			err = entries.Put(name, v)
		}
		if err != nil {
			return err
		}
	}
	h := storedHead{Head: d.Head}
	if h.Signature == nil {
		h = storedHead{Head: Head{Node: d.Node, Incarnation: d.Incarnation, Seq: d.Seq, Floor: d.Floor}, Signed: before.Signed}
		if before.Signature != nil {
			h.Signed = &before.Head
		}
	}
	v, _ := json.Marshal(h)
	return b.Put(headKey, v)
}

// clearBuckets removes what a partial delta is to replace.
func clearBuckets(entries *bolt.Bucket, d Delta) error {
	var gone [][]byte
	if d.Partial {
		_ = entries.ForEach(func(name, _ []byte) error {
			if slices.Contains(d.Buckets, bucketOf(name)) {
				gone = append(gone, bytes.Clone(name))
			}
			return nil
		})
	}
	for _, name := range gone {
		if err := entries.Delete(name); err != nil {
			return err
		}
	}
	return nil
}
