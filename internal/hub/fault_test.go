package hub

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"cria/internal/hub/hubtest"
)

// count reads how often a randomised test repeats, from an environment variable.
func count(t *testing.T, variable string, def int) int {
	t.Helper()
	if v := os.Getenv(variable); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			t.Fatalf("%s: %v", variable, err)
		}
		return n
	}
	if testing.Short() {
		return def / 10
	}
	return def
}

// contents says whether a request is for a file's contents. A listing has no hash of its own, so that a byte changed in it cannot
// be told from another repository: only contents are flipped.
func contents(r *http.Request) bool {
	return !strings.HasPrefix(r.URL.Path, "/api/") || strings.HasSuffix(r.URL.Path, "/repo")
}

// TestFaults pulls through a proxy that breaks answers. Whatever happens, a pull ends with the repository's bytes or with an
// error, and after an error the next pull goes on. CRIA_HUB_SEEDS sets how many seeds are tried.
func TestFaults(t *testing.T) {
	s := hubtest.New()
	defer s.Close()
	files := model(t, 6<<20+12345, 2<<20, 900_000)
	s.Add(hubtest.Repo{Kind: "model", Name: "org/m", Files: files})
	var size int64
	for _, b := range wantedFiles(files) {
		size += int64(len(b))
	}
	kinds := []hubtest.Kind{}
	for _, k := range hubtest.Kinds {
		if k != hubtest.TooMany && k != hubtest.Flip { // the one a second each, the other below
			kinds = append(kinds, k)
		}
	}
	var mu sync.Mutex
	injected := map[hubtest.Kind]int{}
	whole, failed := 0, 0
	t.Run("seeds", func(t *testing.T) {
		for seed := range count(t, "CRIA_HUB_SEEDS", 60) {
			source := []Source{HuggingFace, ModelScope}[seed%2]
			t.Run(fmt.Sprint(seed, source), func(t *testing.T) {
				t.Parallel()
				p := hubtest.NewProxy(s.URL, uint64(seed), hubtest.Faults{Rate: 0.1 + 0.3*float64(seed%5)/4, Kinds: kinds, Stall: 300 * time.Millisecond, Delay: time.Millisecond})
				defer p.Close()
				flips := hubtest.NewProxy(p.URL, uint64(seed), hubtest.Faults{Rate: 0.05, Kinds: []hubtest.Kind{hubtest.Flip}, Only: contents})
				defer flips.Close()
				env := testEnv(t, flips.URL)
				c := quick(env)
				c.stall, c.segment = 200*time.Millisecond, 512<<10
				ref := Ref{Source: source, Kind: Model, Name: "org/m"}
				var dir string
				var err error
				for try := 0; ; try++ {
					if dir, err = c.Pull(context.Background(), ref, Options{}); err == nil {
						break
					}
					if d, ok := c.Cached(ref); ok {
						t.Errorf("pull failed, yet %s counts as whole", d)
					}
					mu.Lock()
					failed++
					mu.Unlock()
					if !strings.Contains(err.Error(), "127.0.0.1") {
						t.Errorf("the error names no host: %v", err)
					}
					if try == 30 {
						t.Fatalf("%d pulls failed, the last: %v", try, err)
					}
				}
				mustHold(t, dir, wantedFiles(files))
				if l := leftovers(t, env.HFCache); len(l) > 0 {
					t.Errorf("left: %v", l)
				}
				mu.Lock()
				defer mu.Unlock()
				whole++
				for _, proxy := range []*hubtest.Proxy{p, flips} {
					for k, n := range proxy.Injected() {
						injected[k] += n
					}
				}
			})
		}
	})
	t.Logf("%d pulls ended well, %d with an error that named the cause; faults: %v", whole, failed, injected)
	if !testing.Short() {
		for _, k := range append(kinds, hubtest.Flip) {
			if injected[k] == 0 {
				t.Errorf("no fault of kind %q was met", k)
			}
		}
	}
	t.Logf("%d bytes wanted, %d pulls, the hub sent %d", size, whole, s.BytesSent())
}

// TestOneFault pulls with one kind of fault each, often enough that every pull meets it, and wants the first pull to end well
// where the fault passes, and an error that says what it was where it does not.
func TestOneFault(t *testing.T) {
	lasting := map[hubtest.Kind]string{
		hubtest.Refuse:      "cannot reach",
		hubtest.WrongRange:  "206", // already of the API's answers
		hubtest.Flip:        "hash",
		hubtest.HTML:        "web page",
		hubtest.Gzip:        "Content-Encoding",
		hubtest.ServerError: "answers 50",
		hubtest.Expired:     "403",
		hubtest.Loop:        "redirects more than 5 times",
		hubtest.TooMany:     "too many requests",
	}
	for _, kind := range hubtest.Kinds {
		for _, always := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/always=%v", kind, always), func(t *testing.T) {
				t.Parallel()
				s := hubtest.New()
				defer s.Close()
				files := model(t, 3<<20)
				s.Add(hubtest.Repo{Kind: "model", Name: "org/m", Files: files})
				rate := 0.3
				if always {
					rate = 1
				}
				faults := hubtest.Faults{Rate: rate, Kinds: []hubtest.Kind{kind}, Stall: 300 * time.Millisecond, Delay: time.Millisecond}
				if kind == hubtest.Flip {
					faults.Only = contents
				}
				p := hubtest.NewProxy(s.URL, 3, faults)
				defer p.Close()
				c := quick(testEnv(t, p.URL))
				c.stall, c.segment, c.tries = 200*time.Millisecond, 256<<10, 12
				if kind == hubtest.TooMany && always {
					c.tries = 3
				}
				dir, err := c.Pull(context.Background(), Ref{Source: HuggingFace, Kind: Model, Name: "org/m"}, Options{})
				want := lasting[kind]
				switch {
				case err == nil:
					mustHold(t, dir, wantedFiles(files))
					if always && want != "" {
						t.Errorf("it should have failed: %v", p.Injected())
					}
				case always && want != "" && strings.Contains(err.Error(), want):
				case kind == hubtest.Loop || kind == hubtest.Flip || kind == hubtest.WrongBytes || kind == hubtest.Expired || always && want == "":
					t.Log(err) // no way around
				default:
					t.Errorf("%v; want %q", err, want)
				}
			})
		}
	}
}
