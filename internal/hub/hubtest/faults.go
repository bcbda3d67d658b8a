package hubtest

import (
	"hash/fnv"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"
)

// Kind is a way to break an answer.
type Kind string

// The kinds. Those that need a body break answers 200 and 206 to GET.
const (
	Cut         Kind = "cut"         // the connection closes within the body
	Reset       Kind = "reset"       // the same with a TCP reset
	Refuse      Kind = "refuse"      // a TCP reset instead of an answer
	Stall       Kind = "stall"       // the body stops for Faults.Stall, then the connection closes
	Delay       Kind = "delay"       // the answer is right and comes after Faults.Delay
	WrongRange  Kind = "wrong range" // 206 whose Content-Range is not what was asked for
	WrongBytes  Kind = "wrong bytes" // 206 with the right Content-Range and the first bytes of the file
	Whole       Kind = "whole"       // 200 and the whole file for a range
	Flip        Kind = "flip"        // bytes are changed
	Short       Kind = "short"       // the body ends early, and Content-Length, if any, is that of what is there
	Long        Kind = "long"        // the body goes on after its end, without Content-Length
	HTML        Kind = "html"        // 200 and a web page
	Gzip        Kind = "gzip"        // the body is compressed, whatever the client takes
	TooMany     Kind = "429"         // with Retry-After: 1
	ServerError Kind = "5xx"         // 500, 502, 503 or 504
	BadRange    Kind = "416"         // Range Not Satisfiable
	Expired     Kind = "403"         // as from a signed link after its time, for signed links
	Loop        Kind = "loop"        // a redirect to itself
)

// Kinds are all of them.
var Kinds = []Kind{Cut, Reset, Refuse, Stall, Delay, WrongRange, WrongBytes, Whole, Flip, Short, Long, HTML, Gzip, TooMany, ServerError, BadRange, Expired, Loop}

// Faults says what a Proxy breaks.
type Faults struct {
	Rate  float64                  // of the requests that are broken, 0 to 1
	Kinds []Kind                   // empty: all; of those that a request can have each is as likely
	Stall time.Duration            // 0: two seconds
	Delay time.Duration            // 0: 200 ms
	Only  func(*http.Request) bool // requests that may be broken; nil: all
}

// choose decides a request's fate by the seed, by what is asked for, and by how many times that was asked for before,
// not by the order in which requests for different things come: so a seed means the same in every run.
func (f Faults) choose(seed uint64, r *http.Request, before int) (Kind, *rand.Rand) {
	h := fnv.New64a()
	for _, s := range []string{r.Method, r.URL.Path, r.URL.Query().Get("FilePath")} {
		h.Write([]byte(s))
		h.Write([]byte{0})
	}
	rng := rand.New(rand.NewPCG(seed, h.Sum64()+uint64(before)))
	if rng.Float64() >= f.Rate || f.Only != nil && !f.Only(r) {
		return "", rng
	}
	var can []Kind
	for _, k := range Kinds {
		if (len(f.Kinds) == 0 || slices.Contains(f.Kinds, k)) && k.fits(r) {
			can = append(can, k)
		}
	}
	if len(can) == 0 {
		return "", rng
	}
	return can[rng.IntN(len(can))], rng
}

// fits says whether a request can be broken so.
func (k Kind) fits(r *http.Request) bool {
	switch k {
	case Refuse, Delay, HTML, TooMany, ServerError, Loop:
		return true
	case Expired:
		return r.URL.Query().Has("Signature")
	case Whole, WrongBytes, BadRange:
		return r.Method == http.MethodGet && r.Header.Get("Range") != ""
	default:
		return r.Method == http.MethodGet
	}
}
