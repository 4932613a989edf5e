// Policies of the stand-in for keel: which tag may follow which, by the documented rules of keel 0.22.1.
package main

import (
	"errors"
	"fmt"
	"regexp"
	"sort"
	"strings"

	"github.com/Masterminds/semver"
)

// policy tells whether a tag may follow another, and in which order candidates are looked at.
type policy struct {
	kind       string // all major minor patch force glob regexp
	pattern    string
	expression *regexp.Regexp
	matchTag   bool
	matchPre   bool
}

var errNoVersion = errors.New("not a version")

// get returns the new key's value if it is there, else the old one's.
func get(m map[string]string, key, old string) (string, bool) {
	if v, ok := m[key]; ok {
		return v, true
	}
	v, ok := m[old]
	return v, ok
}

// policyOf reads the policy: an annotation that is there wins, and brings its own options.
func policyOf(labels, annotations map[string]string) *policy {
	for _, m := range []map[string]string{annotations, labels} {
		text, ok := get(m, "keel.sh/policy", "keel.observer/policy")
		if !ok {
			continue
		}
		tag, _ := get(m, "keel.sh/matchTag", "keel.sh/match-tag")
		pre, there := m["keel.sh/matchPreRelease"]
		return parsePolicy(text, tag == "true", !there || pre == "true")
	}
	return nil
}

func parsePolicy(text string, matchTag, matchPre bool) *policy {
	p := &policy{kind: text, matchTag: matchTag, matchPre: matchPre}
	switch {
	case strings.HasPrefix(text, "glob:"):
		p.kind, p.pattern = "glob", strings.TrimPrefix(text, "glob:")
		return p
	case strings.HasPrefix(text, "regexp:"):
		e, err := regexp.Compile(strings.TrimPrefix(text, "regexp:"))
		if err != nil {
			return nil
		}
		p.kind, p.expression = "regexp", e
		return p
	}
	switch text {
	case "all", "major", "minor", "patch", "force":
		return p
	}
	return nil
}

// globMatches knows one special character: * for anything.
func globMatches(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == text
	}
	if !strings.HasPrefix(text, parts[0]) {
		return false
	}
	text = text[len(parts[0]):]
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(text, part)
		if i < 0 {
			return false
		}
		text = text[i+len(part):]
	}
	return strings.HasSuffix(text, parts[len(parts)-1])
}

// shouldUpdate is the question of every event.
func (p *policy) shouldUpdate(current, candidate string) (bool, error) {
	switch p.kind {
	case "force":
		return !p.matchTag || current == candidate, nil
	case "glob":
		return globMatches(p.pattern, candidate) && candidate > current, nil
	case "regexp":
		return p.expression.MatchString(candidate), nil
	}
	if current == "latest" {
		return true, nil
	}
	if n := len(strings.SplitN(candidate, ".", 3)); n != 2 && n != 3 {
		return false, errNoVersion
	}
	from, err := semver.NewVersion(current)
	if err != nil {
		return false, fmt.Errorf("current %q: %w", current, err)
	}
	to, err := semver.NewVersion(candidate)
	if err != nil {
		return false, fmt.Errorf("candidate %q: %w", candidate, err)
	}
	if from.Prerelease() != to.Prerelease() && p.kind != "all" && p.matchPre {
		return false, nil
	}
	if !to.GreaterThan(from) {
		return false, nil
	}
	switch p.kind {
	case "minor":
		return from.Major() == to.Major(), nil
	case "patch":
		return from.Major() == to.Major() && from.Minor() == to.Minor(), nil
	}
	return true, nil
}

// filter orders the tags that the policy looks at, best first.
func (p *policy) filter(tags []string) []string {
	var list []string
	switch p.kind {
	case "force":
		return tags
	case "glob":
		for _, t := range tags {
			if globMatches(p.pattern, t) {
				list = append(list, t)
			}
		}
		sort.Sort(sort.Reverse(sort.StringSlice(list)))
	case "regexp":
		group, key := p.expression.SubexpIndex("compare"), map[string]string{}
		for _, t := range tags {
			if m := p.expression.FindStringSubmatch(t); m != nil {
				list, key[t] = append(list, t), t
				if group > 0 {
					key[t] = m[group]
				}
			}
		}
		sort.SliceStable(list, func(i, j int) bool { return key[list[i]] > key[list[j]] })
	default:
		versions := map[string]*semver.Version{}
		for _, t := range tags {
			n := len(strings.SplitN(t, ".", 3))
			v, err := semver.NewVersion(t)
			if err == nil && (n == 2 || n == 3) {
				list, versions[t] = append(list, t), v
			}
		}
		sort.SliceStable(list, func(i, j int) bool { return versions[list[i]].GreaterThan(versions[list[j]]) })
	}
	return list
}

// best is what the watcher of all tags would announce: the first that may follow, unless it runs already.
func (p *policy) best(current string, tags []string) (string, bool) {
	for _, t := range p.filter(tags) {
		if ok, err := p.shouldUpdate(current, t); err != nil || !ok {
			continue
		}
		return t, t != current
	}
	return "", false
}
