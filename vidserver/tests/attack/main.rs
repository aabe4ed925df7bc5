//! The program under attack: what was once got wrong when somebody meant harm, or a machine was
//! not as it should be.

mod answers;
mod start;
