//go:build unix

package train

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"cria/internal/disk"
)

// dyingFS kills the process at its n-th operation.
type dyingFS struct {
	disk.OS
	n *int
}

func (d dyingFS) step() {
	if *d.n--; *d.n == 0 {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		time.Sleep(time.Second)
	}
}

func (d dyingFS) Create(name string) (disk.File, error) {
	d.step()
	f, err := d.OS.Create(name)
	return dyingFile{f, d}, err
}
func (d dyingFS) Append(name string) (disk.File, error) {
	d.step()
	f, err := d.OS.Append(name)
	return dyingFile{f, d}, err
}
func (d dyingFS) Mkdir(name string) error      { d.step(); return d.OS.Mkdir(name) }
func (d dyingFS) Rename(from, to string) error { d.step(); return d.OS.Rename(from, to) }
func (d dyingFS) Remove(name string) error     { d.step(); return d.OS.Remove(name) }
func (d dyingFS) SyncDir(name string) error    { d.step(); return d.OS.SyncDir(name) }

type dyingFile struct {
	disk.File
	d dyingFS
}

func (f dyingFile) Write(p []byte) (int, error) { f.d.step(); return f.File.Write(p) }
func (f dyingFile) Sync() error                 { f.d.step(); return f.File.Sync() }

// TestChild is the run that TestKills kills; it is not a test of its own.
func TestChild(t *testing.T) {
	dir, at := os.Getenv("CRIA_CHILD_DIR"), os.Getenv("CRIA_CHILD_DIE_AT")
	if dir == "" {
		t.SkipNow()
	}
	n, _ := strconv.Atoi(at)
	finish(t, tinyRecipe(t, dir, "resume_from_checkpoint=true"), Options{FS: dyingFS{n: &n}})
}

// A run that is killed again and again, half of the times inside a save, ends with the bits of one that was not.
func TestKills(t *testing.T) {
	kills := 60
	if testing.Short() {
		kills = 6
	}
	dir := t.TempDir()
	want := finish(t, tinyRecipe(t, dir, "output_dir="+filepath.Join(dir, "whole")), Options{})
	rng := rand.New(rand.NewPCG(8, 9))
	work := t.TempDir()
	done, killed, finished, inSave := 0, 0, 0, 0
	for killed < kills {
		cmd := exec.Command(os.Args[0], "-test.run=^TestChild$")
		die := 0
		if killed%2 == 0 {
			die = 1 + rng.IntN(160)
		}
		cmd.Env = append(os.Environ(), "CRIA_CHILD_DIR="+work, fmt.Sprint("CRIA_CHILD_DIE_AT=", die))
		var out strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if die == 0 {
			timer := time.AfterFunc(time.Duration(50+rng.IntN(600))*time.Millisecond, func() { cmd.Process.Kill() })
			defer timer.Stop()
		}
		err := cmd.Wait()
		var exit *exec.ExitError
		switch {
		case err == nil:
			finished++
			if got := digest(t, filepath.Join(work, "out", checkpointName(16))); got != want {
				t.Fatalf("after %d kills: other bits", killed)
			}
			work = t.TempDir()
		case errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL:
			killed++
			if die > 0 {
				inSave++
			}
		default:
			t.Fatalf("the run failed by itself: %v\n%s", err, out.String())
		}
		if done++; done > 5*kills {
			t.Fatalf("only %d kills in %d runs", killed, done)
		}
	}
	if got := finish(t, tinyRecipe(t, work, "resume_from_checkpoint=true"), Options{}); got != want {
		t.Error("the last run ended with other bits")
	}
	t.Logf("%d kills, %d of them inside a save; %d runs came to their end between them", killed, inSave, finished)
}
