package hub

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// host is one hub as the environment configured it.
type host struct {
	name     string
	base     *url.URL
	token    string
	tokenVar string
	baseVar  string
	cookie   string   // the cookie that carries the token beside the header, if any
	public   []string // hosts that serve the same API; links to them are turned to a mirror
}

// The public hosts of the hubs: their own addresses, not the storage that files are redirected to.
var (
	huggingFaceHosts = []string{"huggingface.co", "www.huggingface.co", "hf.co"}
	modelScopeHosts  = []string{"modelscope.cn", "www.modelscope.cn", "modelscope.ai", "www.modelscope.ai"}
)

func newHost(name string, base *url.URL, token, tokenVar, baseVar string, public []string) *host {
	return &host{name: name, base: base, token: token, tokenVar: tokenVar, baseVar: baseVar, public: public}
}

// at is an address below the endpoint; the path is escaped already.
func (h *host) at(escaped string, query url.Values) *url.URL {
	u := *h.base
	path, err := url.PathUnescape(escaped)
	if err != nil {
		path = escaped
	}
	u.Path, u.RawPath = h.base.Path+path, h.base.EscapedPath()+escaped
	u.RawQuery = query.Encode()
	return &u
}

// own reports whether u is the configured host: only there the token goes.
func (h *host) own(u *url.URL) bool { return origin(u) == origin(h.base) }

func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + strings.ToLower(u.Hostname()) + ":" + port
}

func (h *host) isPublic(u *url.URL) bool {
	return slices.Contains(h.public, strings.ToLower(u.Hostname()))
}

// follow turns a link of the hub into the address to ask: one to the public hub becomes one to the configured mirror, so
// that a mirror is never left.
func (h *host) follow(from *url.URL, location string) (*url.URL, error) {
	u, err := from.Parse(location)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("%s sends to %.100q, which is no address", from.Host, location)
	}
	if h.isPublic(u) && !h.isPublic(h.base) {
		path, raw := u.Path, u.EscapedPath()
		u.Scheme, u.Host, u.User = h.base.Scheme, h.base.Host, h.base.User
		u.Path, u.RawPath = h.base.Path+path, h.base.EscapedPath()+raw
		if u.String() == from.String() {
			return nil, fmt.Errorf("%s sends back to the public %s, so it does not serve this; choose another mirror or unset %s", from.Host, h.name, h.baseVar)
		}
	}
	if u.Scheme != "https" && (u.Scheme != "http" || h.base.Scheme != "http") {
		return nil, fmt.Errorf("%s sends to %.100s: only https is followed", from.Host, u.Scheme+"://"+u.Host)
	}
	return u, nil
}

// newHTTP makes the one HTTP client. Offline there is none that could connect.
func newHTTP(env Env) *http.Client {
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 15 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout:   15 * time.Second,
		MaxIdleConnsPerHost:   connections,
		IdleConnTimeout:       60 * time.Second,
		DisableCompression:    true,                                                   // bytes are hashed as they are
		TLSNextProto:          map[string]func(string, *tls.Conn) http.RoundTripper{}, // HTTP/1.1: one TCP connection for each range
		ExpectContinueTimeout: time.Second,
	}
	c := &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if env.Offline {
		c.Transport = refuse{}
	}
	return c
}

// refuse is the transport of the offline client.
type refuse struct{}

func (refuse) RoundTrip(*http.Request) (*http.Response, error) { return nil, ErrOffline }

// errStall says that a connection gave nothing for too long.
var errStall = errors.New("the connection gave no more bytes")

const redirects = 5

// get sends a GET, with the hub's token where it belongs, and follows redirects. The answer's body must be closed; it fails
// with errStall when nothing comes for c.stall.
func (c *Client) get(ctx context.Context, h *host, u *url.URL, rng string) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	watch := &watch{stall: c.stall, cancel: cancel, ctx: ctx}
	watch.timer = time.AfterFunc(c.stall, func() { cancel(errStall) })
	for hop := 0; ; hop++ {
		resp, err := c.once(ctx, h, u, rng)
		if err != nil {
			if stalled := watch.cause(err); stalled != err {
				err = fmt.Errorf("%s: %w", u.Host, stalled)
			}
			watch.Close()
			return nil, err
		}
		watch.timer.Reset(c.stall)
		location := resp.Header.Get("Location")
		if resp.StatusCode < 300 || resp.StatusCode > 399 || resp.StatusCode == http.StatusNotModified || location == "" {
			watch.timer.Stop()
			watch.body = resp.Body
			resp.Body = watch
			return resp, nil
		}
		resp.Body.Close()
		if hop == redirects {
			watch.Close()
			return nil, permanent{fmt.Errorf("%s redirects more than %d times", u.Host, redirects)}
		}
		if u, err = h.follow(u, location); err != nil {
			watch.Close()
			return nil, permanent{err}
		}
	}
}

func (c *Client) once(ctx context.Context, h *host, u *url.URL, rng string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, permanent{err}
	}
	req.Header.Set("User-Agent", "cria")
	req.Header.Set("Accept-Encoding", "identity")
	if rng != "" {
		req.Header.Set("Range", rng)
	}
	if h.own(u) && h.token != "" {
		req.Header.Set("Authorization", "Bearer "+h.token)
		if h.cookie != "" {
			req.AddCookie(&http.Cookie{Name: h.cookie, Value: h.token})
		}
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var addressed *url.Error
		if errors.As(err, &addressed) { // it quotes the address, which may be a signed one
			err = addressed.Err
		}
		return nil, unreachable(h, u, err)
	}
	return resp, nil
}

// unreachable words an error of the network.
func unreachable(h *host, u *url.URL, err error) error {
	if errors.Is(err, ErrOffline) {
		return permanent{err}
	}
	var cert *tls.CertificateVerificationError
	if errors.As(err, &cert) {
		return permanent{fmt.Errorf("%s shows a certificate that this machine does not trust: %w; behind a company's proxy set SSL_CERT_FILE to its certificates", u.Host, err)}
	}
	return fmt.Errorf("cannot reach %s: %w; check the connection, HTTPS_PROXY, or set %s to a mirror", u.Host, err, h.baseVar)
}

// watch is a body that must go on.
type watch struct {
	body   io.ReadCloser
	ctx    context.Context
	timer  *time.Timer
	stall  time.Duration
	cancel context.CancelCauseFunc
}

func (w *watch) Read(p []byte) (int, error) {
	w.timer.Reset(w.stall)
	n, err := w.body.Read(p)
	w.timer.Stop() // writing may take long: that is not the connection's fault
	if err != nil && err != io.EOF {
		err = w.cause(err)
	}
	return n, err
}

func (w *watch) cause(err error) error {
	if context.Cause(w.ctx) == errStall {
		return fmt.Errorf("%w for %v", errStall, w.stall)
	}
	return err
}

func (w *watch) Close() error {
	w.timer.Stop()
	w.cancel(context.Canceled)
	if w.body == nil {
		return nil
	}
	return w.body.Close()
}

// permanent marks an error that another try does not cure.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// later is an error after which the host wants a pause.
type later struct {
	error
	wait time.Duration
}

func (l later) Unwrap() error { return l.error }

// retry calls f until it succeeds, fails for good, or fails c.tries times in a row without progress.
func (c *Client) retry(ctx context.Context, r *reporter, what string, f func() (progress bool, err error)) error {
	for fails := 0; ; {
		progress, err := f()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var p permanent
		if errors.As(err, &p) {
			return err
		}
		if fails++; progress {
			fails = 1
		}
		if fails >= c.tries {
			return fmt.Errorf("%s: %w (%d tries)", what, err, fails)
		}
		wait := min(c.backoff<<(fails-1), 30*time.Second)
		wait = wait/2 + rand.N(wait/2+1)
		var l later
		if errors.As(err, &l) && l.wait > 0 {
			if l.wait > c.patience {
				return fmt.Errorf("%s: %w; it asks to come back in %v", what, err, l.wait)
			}
			wait = l.wait + rand.N(c.backoff)
		}
		if wait > 5*time.Second {
			r.note("%s: %v; next try in %v", what, err, wait.Round(time.Second))
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
	}
}

var rateReset = regexp.MustCompile(`r\s*=\s*0\s*;\s*t\s*=\s*(\d{1,6})`)

// pause reads how long an answer asks to wait: Retry-After in seconds or as a date, or "t" of a rate limit that is used up
// (draft-ietf-httpapi-ratelimit-headers).
func pause(header http.Header, now time.Time) time.Duration {
	var wait time.Duration
	if m := rateReset.FindStringSubmatch(header.Get("Ratelimit")); m != nil {
		n, _ := strconv.Atoi(m[1]) // digits only
		wait = time.Duration(n+1) * time.Second
	}
	v := strings.TrimSpace(header.Get("Retry-After"))
	if n, err := strconv.ParseUint(v, 10, 31); err == nil {
		wait = max(wait, time.Duration(n)*time.Second)
	} else if t, err := http.ParseTime(v); err == nil {
		wait = max(wait, t.Sub(now))
	}
	return wait
}
