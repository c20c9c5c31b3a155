//! The codec against Avro itself, against bytes of the past, and against schemas of other times.

#[cfg(test)]
mod against_avro;
#[cfg(test)]
mod evolution;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod sample;
