package hubtest

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"
)

// secret signs links. They are of a test's own server, so there is nothing to keep.
var secret = []byte("hubtest")

// sign makes a link to a path of the CDN that holds for LinkLife.
func (s *Server) sign(p string) string {
	life := s.LinkLife
	if life == 0 {
		life = time.Hour
	}
	until := strconv.FormatInt(time.Now().Add(life).UnixMilli(), 10)
	return fmt.Sprintf("%s%s?Expires=%s&Signature=%s", s.CDN, p, until, signature(p, until))
}

func signature(p, until string) string {
	h := hmac.New(sha256.New, secret)
	fmt.Fprintf(h, "%s %s", p, until)
	return hex.EncodeToString(h.Sum(nil))
}

// serveCDN serves contents by SHA-256 to whoever has a link: /repos/ for Hugging Face, /lfs/ for ModelScope. As object
// stores do, it takes no second authorization, it calls contents by a name of its own, and its errors are XML.
func (s *Server) serveCDN(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	until, err := strconv.ParseInt(q.Get("Expires"), 10, 64)
	s.mu.Lock()
	f := s.blobs[path.Base(r.URL.Path)]
	s.mu.Unlock()
	switch {
	case r.Header.Get("Authorization") != "":
		refuseXML(w, http.StatusBadRequest, "InvalidArgument", "Only one auth mechanism allowed")
	case err != nil || q.Get("Signature") != signature(r.URL.Path, q.Get("Expires")):
		refuseXML(w, http.StatusForbidden, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided.")
	case time.Now().UnixMilli() > until:
		refuseXML(w, http.StatusForbidden, "AccessDenied", "Request has expired")
	case f == nil:
		refuseXML(w, http.StatusNotFound, "NoSuchKey", "The specified key does not exist.")
	default:
		w.Header().Set("ETag", fmt.Sprintf(`"%x"`, md5.Sum(f.data)))
		if strings.HasPrefix(r.URL.Path, "/lfs/") {
			w.Header().Set("X-Linked-Etag", `"`+f.sha256+`"`)
		}
		content(w, r, f)
	}
}

func refuseXML(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>%s</Code><Message>%s</Message></Error>", code, message)
}
