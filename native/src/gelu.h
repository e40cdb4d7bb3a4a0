// GELU with the exact erf, never the tanh approximation. Part of kernels_impl.h.

// x * Phi(x), erf as a quotient of two polynomials of degree 5 in z^2 fitted for least largest error
// on |z| <= 3.925 (1.7e-8), beyond which erf is 1 in float. Error 3e-7 relative to max(1, |x|).
static inline Float gelu(Float x) {
  const Float edge = broadcast(3.925f);
  const Float z = max(min(mul(x, broadcast(0.707106781f)), edge), sub(broadcast(0.0f), edge));
  const Float u = mul(z, z);
  Float p = broadcast(2.030952146014897e-06f);
  p = fma(p, u, broadcast(2.8748277691192925e-04f));
  p = fma(p, u, broadcast(3.875888418406248e-03f));
  p = fma(p, u, broadcast(5.308300256729126e-02f));
  p = fma(p, u, broadcast(1.9296219944953918e-01f));
  p = fma(p, u, broadcast(1.128378987312317f));
  Float q = broadcast(3.803182335104793e-05f);
  q = fma(q, u, broadcast(1.189644681289792e-03f));
  q = fma(q, u, broadcast(1.5187477692961693e-02f));
  q = fma(q, u, broadcast(1.1516319215297699e-01f));
  q = fma(q, u, broadcast(5.043399333953857e-01f));
  q = fma(q, u, broadcast(1.0f));
  const Float half = mul(x, broadcast(0.5f));
  return fma(half, div(mul(z, p), q), half);
}

// The same without a division, for products whose inputs are rounded to 8 bits anyway: Phi - 1/2 as
// an odd polynomial of degree 17 on |x| <= 4.2426. Error 1.3e-5 relative to max(1, |x|).
static inline Float gelu_quick(Float x) {
  const Float edge = broadcast(4.242640495300293f);
  const Float c = max(min(x, edge), sub(broadcast(0.0f), edge));
  const Float u = mul(c, c);
  Float p = broadcast(5.626716800821718e-11f);
  p = fma(p, u, broadcast(-5.3718300918603745e-09f));
  p = fma(p, u, broadcast(2.2682840494780976e-07f));
  p = fma(p, u, broadcast(-5.6461949498043396e-06f));
  p = fma(p, u, broadcast(9.359043906442821e-05f));
  p = fma(p, u, broadcast(-1.1093992507085204e-03f));
  p = fma(p, u, broadcast(9.818116202950478e-03f));
  p = fma(p, u, broadcast(-6.63469210267067e-02f));
  p = fma(p, u, broadcast(3.9890313148498535e-01f));
  return mul(x, fma(c, p, broadcast(0.5f)));
}
