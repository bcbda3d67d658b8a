package disk_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"cria/internal/disk"
)

// The test binary starts itself with this variable set to be the other process: "lock DIR" or "publish DIR".
const roleVariable = "CRIA_DISK_TEST_ROLE"

func TestMain(m *testing.M) {
	role, dir, _ := strings.Cut(os.Getenv(roleVariable), " ")
	switch role {
	case "lock":
		l, err := disk.LockDir(dir)
		fmt.Println(err)
		io.Copy(io.Discard, os.Stdin) // until the parent closes it
		l.Release()
		os.Exit(0)
	case "publish":
		fmt.Println("<nil>")
		for v := byte(1); ; v = 3 - v {
			if err := disk.ReplaceDir(disk.OS{}, filepath.Join(dir, "checkpoint-7"), fill(v)); err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
		}
	}
	os.Exit(m.Run())
}

// other starts the other process and returns the first line it prints.
func other(t *testing.T, role, dir string) (cmd *exec.Cmd, line string, end io.Closer) {
	t.Helper()
	cmd = exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleVariable+"="+role+" "+dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	line, err = bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return cmd, strings.TrimSpace(line), in
}

func TestLockBetweenProcesses(t *testing.T) {
	dir := t.TempDir()
	cmd, line, _ := other(t, "lock", dir)
	if line != "<nil>" {
		t.Fatal(line)
	}
	_, err := disk.LockDir(dir)
	var locked *disk.LockedError
	if !errors.Is(err, disk.ErrLocked) || !errors.As(err, &locked) || locked.Owner.PID != cmd.Process.Pid {
		t.Fatalf("error %v; want process %d named", err, cmd.Process.Pid)
	}
	host, _ := os.Hostname()
	if want := fmt.Sprintf("process %d on %s", cmd.Process.Pid, host); !strings.Contains(err.Error(), want) {
		t.Fatalf("error %q; want %q in it", err, want)
	}

	cmd.Process.Kill()
	cmd.Wait()
	l, err := disk.LockDir(dir)
	if err != nil {
		t.Fatalf("after the other process died: %v", err)
	}
	if _, err := disk.LockDir(dir); !errors.Is(err, disk.ErrLocked) {
		t.Fatalf("second lock of this process: %v", err)
	}
	second, line, end := other(t, "lock", dir)
	if !strings.Contains(line, fmt.Sprintf("process %d on ", os.Getpid())) {
		t.Fatalf("the other process says %q", line)
	}
	end.Close()
	second.Wait()
	if err := errors.Join(l.Release(), l.Release()); err != nil {
		t.Fatal(err)
	}
	if removed := len(names(t, disk.OS{}, dir)) == 0; removed != (runtime.GOOS != "windows") {
		t.Fatalf("%q are left", names(t, disk.OS{}, dir))
	}
	third, line, end := other(t, "lock", dir)
	if line != "<nil>" {
		t.Fatal(line)
	}
	end.Close()
	if err := third.Wait(); err != nil {
		t.Fatal(err)
	}

	if _, err := disk.LockDir(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("no directory: %v", err)
	}
}

// TestLockContention lets goroutines take and release one lock, which removes its file each time: never two holders.
func TestLockContention(t *testing.T) {
	dir := t.TempDir()
	holder := make(chan int, 1)
	done := make(chan error)
	for g := range 4 {
		go func() {
			taken := 0
			for end := time.Now().Add(200 * time.Millisecond); time.Now().Before(end); {
				l, err := disk.LockDir(dir)
				if errors.Is(err, disk.ErrLocked) {
					continue
				}
				if err != nil {
					done <- err
					return
				}
				select {
				case holder <- g:
				default:
					done <- errors.New("two holders at once")
					return
				}
				taken++
				<-holder
				l.Release()
			}
			if taken == 0 {
				t.Logf("goroutine %d never had the lock", g)
			}
			done <- nil
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestKilledWriter kills a process that replaces a directory over and over, at times that are not its choice.
func TestKilledWriter(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a temporary name counts as abandoned only after a day")
	}
	dir := t.TempDir()
	cleaned, published := 0, false
	const kills = 60
	for i := range kills {
		cmd, line, _ := other(t, "publish", dir)
		if line != "<nil>" {
			t.Fatal(line)
		}
		for end := time.Now().Add(10 * time.Second); !published && time.Now().Before(end); { // a busy disk takes its time
			_, err := os.Lstat(filepath.Join(dir, "checkpoint-7"))
			published = err == nil
		}
		time.Sleep(time.Duration(500+i*397%5000) * time.Microsecond)
		cmd.Process.Kill()
		cmd.Wait()
		left := len(names(t, disk.OS{}, dir))
		if err := disk.CleanTemps(disk.OS{}, dir); err != nil {
			t.Fatal(err)
		}
		after := names(t, disk.OS{}, dir)
		if len(after) > 1 {
			t.Fatalf("kill %d: %q are left", i, after)
		}
		if left > 1 {
			cleaned++
		}
		got, err := state(t, disk.OS{}, filepath.Join(dir, "checkpoint-7"))
		if err != nil || published && got == "" {
			t.Fatalf("kill %d: state %q, %v", i, got, err)
		}
	}
	if !published {
		t.Error("the process published nothing")
	}
	t.Logf("%d kills, %d of them inside a replacement, directory whole after each", kills, cleaned)
}

// TestCleanTempsSeesOtherProcess leaves the temporary directory of a living process alone.
func TestCleanTempsSeesOtherProcess(t *testing.T) {
	dir := t.TempDir()
	dst := filepath.Join(dir, "out")
	err := disk.PublishDir(disk.OS{}, dst, func(w *disk.DirWriter) error {
		if err := disk.CleanTemps(disk.OS{}, dir); err != nil {
			return err
		}
		return fill(1)(w)
	})
	if err != nil {
		t.Fatal(err)
	}
	err = disk.PublishStream(disk.OS{}, filepath.Join(dir, "file"), func(w io.Writer) error {
		if err := disk.CleanTemps(disk.OS{}, dir); err != nil {
			return err
		}
		_, err := w.Write(content(1))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := state(t, disk.OS{}, filepath.Join(dir, "file")); got != "1" {
		t.Fatal(got, err)
	}
}

func TestFreeSpace(t *testing.T) {
	dir := t.TempDir()
	here, err := disk.FreeSpace(dir)
	if err != nil || here == 0 {
		t.Fatal(here, err)
	}
	there, err := disk.FreeSpace(filepath.Join(dir, "not", "yet"))
	if err != nil || there == 0 {
		t.Fatal(there, err)
	}
	write(t, filepath.Join(dir, "file"), nil)
	if _, err := disk.FreeSpace(filepath.Join(dir, "file", "x")); err == nil {
		t.Fatal("free space below a file")
	}
}
