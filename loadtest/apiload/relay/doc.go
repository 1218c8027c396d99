// Package relay is what the loads that go through relay's API share: the way
// to it with a bearer token, the words for a caller whom it refuses, a tally of
// errors by kind, and a relay process of one's own where the load needs one
// that is set up for it.
package relay
