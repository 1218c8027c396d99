// Package plot draws lines as SVG for a page that has no network: axes, a
// legend, a description for those who do not see it, and the points as data
// for a script that shows values under the pointer. Colours are CSS classes
// (s0 to s5), so the page's light and dark modes are its style sheet's, and
// each series has its own dash pattern, so colour is never the only mark.
//
// Chart libraries for Go were looked at first: go-analyze/charts v0.6.4 has
// axes by category only (no logarithmic one) and writes colours inline;
// gonum/plot v0.17.0 has the scales, but neither classes nor descriptions.
package plot
