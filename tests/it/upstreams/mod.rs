//! Several servers behind one upstream, their health, and what becomes of more requests than they bear.

mod overload;
mod servers;
