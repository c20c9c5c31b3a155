//! The main job, end to end: from a sensor's message to what a doctor sees.

mod assignments;
mod bad_messages;
mod broker_token;
mod care;
mod commands;
mod consultation_recorded;
mod consultations;
mod house;
mod importing;
mod killing;
mod merging;
mod moved;
mod moved_journal;
mod orders;
mod outside;
mod pace;
mod patients;
mod program;
mod readme;
mod recorded;
mod roles;
mod schemas;
mod secured;
mod stock_tools;
mod tokens;
