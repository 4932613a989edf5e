package main

import (
	"strings"
	"testing"
)

// The table of versions: current, candidate, then y or - for patch, minor, major, all, then for patch, minor and major
// with keel.sh/matchPreRelease=false. An error counts as no.
const table = `
1.2.3       1.2.3        ---- ---
1.2.3       1.2.2        ---- ---
1.2.3       1.2.4        yyyy yyy
1.2.3       1.3.0        -yyy -yy
1.2.3       2.0.0        --yy --y
1.2.3       1.2.4-rc.1   ---y yyy
1.2.3       2.0.0-rc.1   ---y --y
1.2.3-rc.1  1.2.3        ---y yyy
1.2.3-rc.1  1.2.3-rc.2   ---y yyy
1.2.3-rc.1  1.2.4-rc.1   yyyy yyy
1.2.3-rc.1  1.3.0-rc.1   -yyy -yy
1.2.3-dev   1.2.4-prod   ---y yyy
1.2         1.2.5        yyyy yyy
1.2         1.3          -yyy -yy
1           1.2.3        -yyy -yy
v1.2.3      1.2.4        yyyy yyy
1.2.3+a     1.2.3+b      ---- ---
1.2.3       3050         ---- ---
1.2.3       latest       ---- ---
1.2.3       1.2.3.4      ---- ---
master      1.0.0        ---- ---
latest      1.0.0        yyyy yyy
latest      2.0.0-rc.1   yyyy yyy
2024.01.05  2024.02.01   -yyy -yy
1.2.3-beta.01 1.2.3-beta.02  ---y yyy
1.2.3-beta.01 1.2.4-beta.01  yyyy yyy
1.2.3-beta.1  1.2.4-beta.01  ---y yyy
1.2.3-beta.01 1.2.3-beta.1   ---- ---
1.4.0-0123456 1.4.0-0123457  ---y yyy
1.2.3-beta9   1.2.3-beta10   ---- ---
1.2.3-beta10  1.2.3-beta9    ---y yyy
`

func TestTable(t *testing.T) {
	rows := 0
	for _, line := range strings.Split(strings.TrimSpace(table), "\n") {
		f := strings.Fields(line)
		rows++
		for i, kind := range []string{"patch", "minor", "major", "all"} {
			for variant, column := range []string{f[2], f[3]} {
				if i >= len(column) {
					continue
				}
				got, _ := parsePolicy(kind, false, variant == 0).shouldUpdate(f[0], f[1])
				if got != (column[i] == 'y') {
					t.Errorf("%s, %s -> %s, variant %d: got %v", kind, f[0], f[1], variant, got)
				}
			}
		}
	}
	if rows != 31 {
		t.Errorf("%d rows", rows)
	}
}

func TestOthers(t *testing.T) {
	yes := func(p, current, candidate string, matchTag, want bool) {
		t.Helper()
		if got, _ := parsePolicy(p, matchTag, true).shouldUpdate(current, candidate); got != want {
			t.Errorf("%s %s -> %s: got %v", p, current, candidate, got)
		}
	}
	yes("force", "1.0.0", "0.0.1", false, true)
	yes("force", "main", "dev", true, false)
	yes("force", "main", "main", true, true)
	yes("glob:build-*", "build-1", "build-2", false, true)
	yes("glob:build-*", "build-2", "build-10", false, false)
	yes("glob:build-*", "build-1", "other-2", false, false)
	yes("regexp:^main-\\d+$", "main-9", "main-1", false, true) // a match is enough: it goes back
	yes("major", "latest", "garbage", false, true)
	for _, bad := range []string{"", "never", "Major", "regexp:("} {
		if parsePolicy(bad, false, true) != nil {
			t.Errorf("%q is a policy", bad)
		}
	}
	best := func(p, current, want string, tags ...string) {
		t.Helper()
		if got, ok := parsePolicy(p, false, true).best(current, tags); ok != (want != "") || ok && got != want {
			t.Errorf("%s at %s of %v: got %q %v", p, current, tags, got, ok)
		}
	}
	best("minor", "1.2.3", "1.4.0", "1.2.4", "2.0.0", "1.4.0", "latest")
	best("major", "1.2.3", "", "1.2.2", "1.2.3")
	best("regexp:^m-(?P<compare>\\d)", "m-2", "", "m-1", "m-2")
	best("regexp:^m-(?P<compare>\\d)", "m-2", "m-1", "m-1") // its own tag is gone
	best("glob:b-*", "b-1", "b-3", "b-2", "b-3", "c-9")
}

func TestPrecedence(t *testing.T) {
	m := func(pairs ...string) map[string]string {
		out := map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			out[pairs[i]] = pairs[i+1]
		}
		return out
	}
	is := func(labels, annotations map[string]string, kind string, matchTag, matchPre bool) {
		t.Helper()
		p := policyOf(labels, annotations)
		if p == nil && kind == "" {
			return
		}
		if p == nil || p.kind != kind || p.matchTag != matchTag || p.matchPre != matchPre {
			t.Errorf("%v %v: got %+v", labels, annotations, p)
		}
	}
	is(m("keel.sh/policy", "minor"), m("keel.sh/policy", "major"), "major", false, true)
	is(m("keel.sh/policy", "minor"), m("keel.sh/policy", ""), "", false, true)
	is(m("keel.sh/policy", "all"), m("keel.observer/policy", "patch"), "patch", false, true)
	is(m("keel.sh/matchTag", "true"), m("keel.sh/policy", "force"), "force", false, true)
	is(nil, m("keel.sh/policy", "force", "keel.sh/match-tag", "true"), "force", true, true)
	is(nil, m("keel.sh/policy", "force", "keel.sh/match-tag", "true", "keel.sh/matchTag", "no"), "force", false, true)
	is(nil, m("keel.sh/policy", "all", "keel.sh/matchPreRelease", "yes"), "all", false, false)
}
