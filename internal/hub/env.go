package hub

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"cria/internal/disk"
)

// Env is what the environment says about the hubs, in the variables of their Python clients.
type Env struct {
	HFEndpoint *url.URL // HF_ENDPOINT; https://huggingface.co
	HFToken    string   // HF_TOKEN, HUGGING_FACE_HUB_TOKEN, or the file $HF_TOKEN_PATH or $HF_HOME/token
	HFCache    string   // HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, $HF_HOME/hub; ~/.cache/huggingface/hub
	NoLinks    bool     // HF_HUB_DISABLE_SYMLINKS

	MSEndpoint *url.URL // MODELSCOPE_ENDPOINT, MODELSCOPE_DOMAIN, MODELSCOPE_PREFER_AI_SITE; https://modelscope.cn
	MSToken    string   // MODELSCOPE_API_TOKEN
	MSCache    string   // MODELSCOPE_CACHE; ~/.cache/modelscope

	Offline       bool // HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE: no connection to either hub
	DefaultSource Source

	offlineBy string // the variable
}

// FromEnv reads the environment. The hub of names without prefix is CRIA_SOURCE (hf or ms), or else ms with
// USE_MODELSCOPE_HUB=1, or where variables are set for ModelScope and none for Hugging Face; otherwise hf.
func FromEnv(getenv func(string) string) (Env, error) {
	var e Env
	home := getenv("HOME")
	if runtime.GOOS == "windows" {
		home = getenv("USERPROFILE")
	}
	first := func(names ...string) string {
		for _, n := range names {
			if v := strings.TrimSpace(getenv(n)); v != "" {
				return v
			}
		}
		return ""
	}
	dir := func(def string, names ...string) string {
		v := first(names...)
		if v == "" {
			return def
		}
		if v == "~" || strings.HasPrefix(v, "~/") {
			v = home + v[1:]
		}
		return filepath.Clean(os.Expand(v, getenv))
	}
	on := func(name string) bool {
		switch strings.ToUpper(first(name)) {
		case "1", "ON", "YES", "TRUE":
			return true
		}
		return false
	}

	hfHome := dir(filepath.Join(dir(filepath.Join(home, ".cache"), "XDG_CACHE_HOME"), "huggingface"), "HF_HOME")
	e.HFCache = dir(filepath.Join(hfHome, "hub"), "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE")
	e.MSCache = dir(filepath.Join(home, ".cache", "modelscope"), "MODELSCOPE_CACHE")
	e.NoLinks = on("HF_HUB_DISABLE_SYMLINKS")
	e.HFToken = first("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
	if e.HFToken == "" {
		if b, err := disk.ReadFile(dir(filepath.Join(hfHome, "token"), "HF_TOKEN_PATH"), 1<<16); err == nil {
			e.HFToken = strings.TrimSpace(string(b))
		}
	}
	e.MSToken = first("MODELSCOPE_API_TOKEN")
	for name, token := range map[string]string{"HF_TOKEN": e.HFToken, "MODELSCOPE_API_TOKEN": e.MSToken} {
		if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' || r == ';' || r == '"' || r == ',' }) {
			return Env{}, fmt.Errorf("%s (or the token file) holds characters that no token has; copy the token again", name)
		}
	}

	var err error
	if e.HFEndpoint, err = endpoint("HF_ENDPOINT", first("HF_ENDPOINT"), "https://huggingface.co"); err != nil {
		return Env{}, err
	}
	public := "https://modelscope.cn"
	if on("MODELSCOPE_PREFER_AI_SITE") {
		public = "https://www.modelscope.ai"
	}
	if e.MSEndpoint, err = endpoint("MODELSCOPE_ENDPOINT", first("MODELSCOPE_ENDPOINT", "MODELSCOPE_DOMAIN"), public); err != nil {
		return Env{}, err
	}

	for _, name := range []string{"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"} {
		if on(name) {
			e.Offline, e.offlineBy = true, name
			break
		}
	}
	hf := first("HF_ENDPOINT", "HF_TOKEN", "HF_HOME", "HF_HUB_CACHE")
	ms := first("MODELSCOPE_ENDPOINT", "MODELSCOPE_DOMAIN", "MODELSCOPE_CACHE", "MODELSCOPE_API_TOKEN")
	switch s := first("CRIA_SOURCE"); {
	case s == string(HuggingFace), s == string(ModelScope):
		e.DefaultSource = Source(s)
	case s != "":
		return Env{}, fmt.Errorf("CRIA_SOURCE is %q; it can be hf (Hugging Face) or ms (ModelScope)", s)
	case on("USE_MODELSCOPE_HUB"), ms != "" && hf == "":
		e.DefaultSource = ModelScope
	default:
		e.DefaultSource = HuggingFace
	}
	return e, nil
}

// endpoint reads the address of a hub or a mirror.
func endpoint(variable, value, def string) (*url.URL, error) {
	if value == "" {
		value = def
	}
	if !strings.Contains(value, "://") {
		value = "https://" + value
	}
	u, err := url.Parse(strings.TrimRight(value, "/"))
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%s is %q; want an address such as %s", variable, value, def)
	}
	return u, nil
}
