package disk

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// LockName is the file in an output directory that its writer keeps locked.
const LockName = ".cria.lock"

// Owner is who holds a directory's lock, as written in the lock file.
type Owner struct {
	PID     int       `json:"pid"`
	Host    string    `json:"host"`
	Started time.Time `json:"started"`
}

// LockedError says that another process writes to a directory. Owner is zero if it could not be read.
type LockedError struct {
	Dir   string
	Owner Owner
}

func (e *LockedError) Error() string {
	who := "another process"
	if e.Owner.PID != 0 {
		who = fmt.Sprintf("process %d on %s since %s", e.Owner.PID, e.Owner.Host, e.Owner.Started.Format(time.DateTime))
	}
	return fmt.Sprintf("%s is in use by %s; wait for it, stop it, or choose another output_dir", e.Dir, who)
}

func (e *LockedError) Unwrap() error { return ErrLocked }

// Lock is a held directory lock.
type Lock struct {
	f    *os.File
	path string
}

// LockDir makes the caller the only writer of an existing directory, by the operating system's lock on a file in it, which
// ends with the process however it dies. It fails with a *LockedError if another process, or this one, has the lock, and
// with errors.ErrUnsupported where the file system has no locks (some network file systems).
func LockDir(dir string) (*Lock, error) {
	path := filepath.Join(dir, LockName)
	for range 10 {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", dir, err)
		}
		err = lockFile(f)
		if errors.Is(err, ErrLocked) {
			e := &LockedError{Dir: dir}
			if b, err := io.ReadAll(io.LimitReader(f, 4096)); err == nil && json.Unmarshal(b, &e.Owner) != nil {
				e.Owner = Owner{}
			}
			f.Close()
			return nil, e
		}
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", dir, err)
		}
		held, err1 := f.Stat()
		named, err2 := os.Stat(path)
		if err1 == nil && err2 == nil && os.SameFile(held, named) {
			l := &Lock{f: f, path: path}
			if err := l.sign(); err != nil {
				l.Release()
				return nil, fmt.Errorf("lock %s: %w", dir, err)
			}
			return l, nil
		}
		f.Close() // the former holder removed the file between our two calls
	}
	return nil, fmt.Errorf("lock %s: the lock file keeps disappearing", dir)
}

func (l *Lock) sign() error {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	b, err := json.Marshal(Owner{PID: os.Getpid(), Host: host, Started: time.Now().Truncate(time.Second)})
	if err != nil {
		return err
	}
	if err := l.f.Truncate(0); err != nil {
		return err
	}
	_, err = l.f.WriteAt(append(b, '\n'), 0)
	return err
}

// Release gives the lock back. A nil lock, or one that was released, is left as it is.
func (l *Lock) Release() error {
	if l == nil || l.f == nil {
		return nil
	}
	f := l.f
	l.f = nil
	if removeLocked {
		os.Remove(l.path) // while it is locked: whoever opened it meanwhile sees in LockDir that the name is gone
	}
	return f.Close()
}
