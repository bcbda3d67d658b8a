package hub

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cria/internal/hub/hubtest"
)

// TestMain makes the test binary a process that pulls, if the environment says so.
func TestMain(m *testing.M) {
	if name := os.Getenv("CRIA_HUB_CHILD"); name != "" {
		os.Exit(child(name))
	}
	os.Exit(m.Run())
}

func child(name string) int {
	env, err := FromEnv(os.Getenv)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	ref, err := ParseRef(name, Model, env.DefaultSource)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	c := quick(env)
	if t, ok := c.http.Transport.(*http.Transport); ok {
		// What the kernel has received and the process has not is lost too; keep it small, so that the host's count of
		// bytes says what the process lost.
		t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			if tcp, ok := conn.(*net.TCPConn); ok {
				tcp.SetReadBuffer(8 << 10)
			}
			return conn, err
		}
	}
	dir, err := c.Pull(context.Background(), ref, Options{})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(dir)
	return 0
}

// command is a child that pulls into dir's caches.
func command(name, dir, url string, more ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "CRIA_HUB_CHILD="+name, "HOME="+dir, "HF_ENDPOINT="+url, "MODELSCOPE_ENDPOINT="+url,
		"HF_HUB_CACHE="+filepath.Join(dir, "hf"), "MODELSCOPE_CACHE="+filepath.Join(dir, "ms"), "HF_HUB_OFFLINE=", "HF_TOKEN=", "MODELSCOPE_API_TOKEN=")
	cmd.Env = append(cmd.Env, more...)
	return cmd
}

// storage serves contents by the last part of the path, as the hosts do that hubs redirect to, and counts the bytes that
// it gives to the kernel. pause is how long it takes for 16 KiB.
type storage struct {
	*httptest.Server
	sent  atomic.Int64
	open  atomic.Int64 // connections
	pause time.Duration
}

func newStorage(t testing.TB, files map[string][]byte, pause time.Duration) *storage {
	s := &storage{pause: pause}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, ok := files[path.Base(r.URL.Path)]
		if !ok {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
	}))
	s.Listener = &slowListener{s.Listener, s}
	s.Start()
	t.Cleanup(s.Close)
	return s
}

type slowListener struct {
	net.Listener
	s *storage
}

func (l *slowListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c.(*net.TCPConn).SetWriteBuffer(8 << 10)
	l.s.open.Add(1)
	return &slowConn{Conn: c, s: l.s}, nil
}

type slowConn struct {
	net.Conn
	s    *storage
	once sync.Once
}

func (c *slowConn) Write(b []byte) (n int, err error) {
	for len(b) > 0 && err == nil {
		var k int
		k, err = c.Conn.Write(b[:min(len(b), 16<<10)])
		c.s.sent.Add(int64(k))
		n, b = n+k, b[k:]
		time.Sleep(c.s.pause)
	}
	return n, err
}

func (c *slowConn) Close() error {
	c.once.Do(func() { c.s.open.Add(-1) })
	return c.Conn.Close()
}

// slowHub is a hub whose large files come from a storage that counts.
func slowHub(t testing.TB, pause time.Duration, files map[string][]byte) (*hubtest.Server, *storage) {
	t.Helper()
	s := hubtest.New()
	t.Cleanup(s.Close)
	contents := map[string][]byte{}
	for _, b := range files {
		key, err := sum(context.Background(), File{Size: int64(len(b)), SHA256: "x"}, bytes.NewReader(b), func(int64) {})
		if err != nil {
			t.Fatal(err)
		}
		contents[key] = b
	}
	store := newStorage(t, contents, pause)
	s.CDN = store.URL
	s.Add(hubtest.Repo{Kind: "model", Name: "org/m", Files: files})
	return s, store
}

// kept is how many bytes of weights a cache has: finished, or noted in a journal.
func kept(t testing.TB, root string) (n int64) {
	t.Helper()
	filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		base := filepath.Base(p)
		switch {
		case filepath.Ext(p) == ".part":
			text, err := os.ReadFile(journalPath(p))
			if err != nil {
				return nil
			}
			key, _, _ := strings.Cut(base, ".")
			f := File{SHA256: key}
			fmt.Sscanf(string(text), journalHead+"%s %d", &key, &f.Size)
			doubt, safe := readJournal(journalPath(p), f, info.Size())
			for _, s := range safe {
				doubt = doubt.add(s)
			}
			n += doubt.total()
		case sha256Hex.MatchString(base), filepath.Ext(p) == ".safetensors":
			n += info.Size()
		}
		return nil
	})
	return n
}

// TestKill kills a pull at random moments, again and again. Each kill loses less than 1 MiB, by the storage's count of the
// bytes that it sent, and the pull that is not killed ends with the right files. CRIA_HUB_KILLS sets the number of kills.
func TestKill(t *testing.T) {
	files := model(t, 9<<20+777, 5<<20, 100_000)
	var size int64
	for p, b := range files {
		if filepath.Ext(p) == ".safetensors" && path.Dir(p) == "." && p != "consolidated.safetensors" {
			size += int64(len(b))
		}
	}
	s, store := slowHub(t, 3*time.Millisecond, files)
	const most = 1 << 20
	var worst, lost int64
	kills, pulls := 0, 0
	for want := count(t, "CRIA_HUB_KILLS", 40); kills < want; pulls++ {
		dir := t.TempDir()
		source := []Source{HuggingFace, ModelScope}[pulls%2]
		start := store.sent.Load()
		var before int64 // lost of this pull so far
		for done := false; !done; {
			cmd := command(string(source)+":org/m", dir, s.URL)
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			at := store.sent.Load()
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			timer := time.AfterFunc(time.Hour, func() {})
			if kills < want {
				if rand.N(3) > 0 { // after the first bytes, which is where the time goes
					for began := time.Now(); store.sent.Load() == at && time.Since(began) < 2*time.Second; {
						time.Sleep(time.Millisecond)
					}
				}
				timer = time.AfterFunc(rand.N(250*time.Millisecond), func() { cmd.Process.Kill() })
			}
			err := cmd.Wait()
			timer.Stop()
			var exit *exec.ExitError
			switch {
			case err == nil:
				done = true
				mustHold(t, string(bytes.TrimSpace(out.Bytes())), wantedFiles(files))
				// A name that a killed process had for an instant goes when it is old enough.
				for _, name := range leftovers(t, dir) {
					if !strings.HasPrefix(filepath.Base(name), "tmp-") {
						t.Errorf("left: %s", name)
					}
				}
				c := quick(envAt(t, dir, s.URL))
				c.busy = 0
				if _, err := c.Pull(context.Background(), Ref{source, Model, "org/m", ""}, Options{}); err != nil {
					t.Error(err)
				}
				if l := leftovers(t, dir); len(l) > 0 {
					t.Errorf("left for good: %v", l)
				}
			case errors.As(err, &exit) && exit.ExitCode() == -1:
				kills++
			default:
				t.Fatalf("the pull failed: %v\n%s", err, out.String())
			}
			for deadline := time.Now().Add(5 * time.Second); store.open.Load() > 0 && time.Now().Before(deadline); {
				time.Sleep(time.Millisecond)
			}
			now := store.sent.Load() - start - kept(t, dir)
			if loss := now - before; loss >= most {
				t.Errorf("a kill lost %d bytes", loss)
			} else {
				worst = max(worst, loss)
			}
			before = now
		}
		lost += before
		if n := store.sent.Load() - start; n < size {
			t.Errorf("%d bytes were sent for %d", n, size)
		}
	}
	t.Logf("%d kills in %d pulls of %d bytes: at most %d bytes lost by one, %d on average (headers of answers included)", kills, pulls, size, worst, lost/int64(max(1, kills)))
}

// TestTwoProcesses lets several processes pull the same model into the same cache at once: all end well, and the bytes are
// fetched once.
func TestTwoProcesses(t *testing.T) {
	files := model(t, 3<<20, 2<<20)
	s, store := slowHub(t, time.Millisecond, files)
	for _, source := range []Source{HuggingFace, ModelScope} {
		dir := t.TempDir()
		before := store.sent.Load()
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				out, err := command(string(source)+":org/m", dir, s.URL).CombinedOutput()
				if err != nil {
					t.Errorf("%v: %s", err, out)
					return
				}
				mustHold(t, string(bytes.TrimSpace(out)), wantedFiles(files))
			})
		}
		all.Wait()
		if n := store.sent.Load() - before; n > 6<<20 {
			t.Errorf("%s: %d bytes were sent", source, n)
		}
		if l := leftovers(t, dir); len(l) > 0 {
			t.Errorf("left: %v", l)
		}
	}
}

// TestLyingLocks does the same where the file system grants every lock, and where it has none: the bytes are right, whatever
// is fetched twice.
func TestLyingLocks(t *testing.T) {
	for name, lock := range map[string]func(string) (io.Closer, error){
		"lies": func(name string) (io.Closer, error) { _, err := os.Stat(name); return io.NopCloser(nil), err },
		"none": func(string) (io.Closer, error) { return nil, errors.ErrUnsupported },
	} {
		t.Run(name, func(t *testing.T) {
			defer func(f func(string) (io.Closer, error)) { tryLock = f }(tryLock)
			tryLock = lock
			files := model(t, 5<<20, 3<<20)
			s, _ := slowHub(t, 200*time.Microsecond, files)
			for _, source := range []Source{HuggingFace, ModelScope} {
				env := testEnv(t, s.URL)
				var all sync.WaitGroup
				var good atomic.Int32
				for range 4 {
					all.Go(func() {
						dir, err := quick(env).Pull(context.Background(), Ref{Source: source, Kind: Model, Name: "org/m"}, Options{})
						if err != nil {
							t.Errorf("%s: %v", source, err)
							return
						}
						good.Add(1)
						mustHold(t, dir, wantedFiles(files))
					})
				}
				all.Wait()
				dir, err := quick(env).Pull(context.Background(), Ref{Source: source, Kind: Model, Name: "org/m"}, Options{})
				if err != nil {
					t.Fatal(err)
				}
				mustHold(t, dir, wantedFiles(files))
				if good.Load() != 4 {
					t.Errorf("%s: %d of 4 ended well", source, good.Load())
				}
			}
		})
	}
}
