//! The short kernels on processors that have no instructions for them: nothing of it can be made.
#![allow(unsafe_code)]

use super::dispatch::Work;
use super::forward::{Part, Pass};
use super::geometry::Geometry;
use super::space::Slice;
use crate::engine::{EngineError, LayerActivations};

/// There are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Products {}

impl Products {
    /// Of none.
    pub fn parts(self) -> usize {
        match self {}
    }

    /// None do.
    pub fn pay(self) -> bool {
        match self {}
    }
}

/// There are none.
#[derive(Debug)]
pub enum Weights {}

/// There is none.
#[derive(Debug)]
pub enum Space {}

/// There are none.
#[derive(Debug)]
pub enum Job {}

fn none<T>(geo: &Geometry) -> T {
    match geo.short {
        Some(products) => match products {},
        None => unreachable!("asked for only where there are short kernels"),
    }
}

impl Weights {
    /// Of no model.
    pub fn new(geo: &Geometry) -> Result<Weights, EngineError> {
        none(geo)
    }

    /// Of none.
    pub fn pack(&mut self, _: &Geometry, _: &[f32]) {
        match *self {}
    }
}

impl Space {
    /// Of no slice.
    pub fn new(geo: &Geometry, _: usize, _: (bool, bool), _: usize) -> Result<Space, EngineError> {
        none(geo)
    }

    /// Of no slice.
    #[cfg(test)]
    pub fn fill(&mut self, _: f32) {
        match *self {}
    }
}

impl Job {
    /// Of no product.
    #[cfg(test)]
    pub fn fill(&mut self, _: f32) {
        match *self {}
    }

    /// Of no product.
    pub fn is_head(&self) -> bool {
        match *self {}
    }
}

/// Of no model.
pub fn jobs(geo: &Geometry) -> Result<Vec<Job>, EngineError> {
    none(geo)
}

/// On none.
///
/// # Safety
/// There is nothing to run.
pub unsafe fn run_part(_: Work, _: &Pass, weights: &Weights, _: &Slice, _: &Part) {
    match *weights {}
}

/// On none.
pub fn run_gradient(_: &Geometry, _: &[Slice], _: usize, job: &mut Job) {
    match *job {}
}

/// From none.
pub fn collect_layers(geo: &Geometry, _: &[Job], _: f32, _: &mut [f32]) {
    none(geo)
}

/// From none.
pub fn collect_head(geo: &Geometry, _: &[Job], _: f32, _: &mut [f32]) {
    none(geo)
}

/// There are none.
#[derive(Debug)]
pub enum Group {}

impl Group {
    /// Of no product.
    #[cfg(test)]
    pub fn fill(&mut self, _: f32) {
        match *self {}
    }

    /// Of no product.
    pub fn is_head(&self) -> bool {
        match *self {}
    }
}

/// Of no model.
pub fn groups(geo: &Geometry, _: usize) -> Result<Vec<Group>, EngineError> {
    none(geo)
}

/// On none.
pub fn run_group(_: &Geometry, _: &[Slice], _: usize, group: &mut Group) {
    match *group {}
}

/// From none.
pub fn collect_layers_of_parts(geo: &Geometry, _: &[Group], _: f32, _: &mut [f32]) {
    none(geo)
}

/// From none.
pub fn collect_head_of_parts(geo: &Geometry, _: &[Group], _: f32, _: &mut [f32]) {
    none(geo)
}

/// From none.
pub fn collect_layers_along(geo: &Geometry, _: &[Slice], _: f32, _: &mut [f32]) {
    none(geo)
}

/// From none.
pub fn collect_head_along(geo: &Geometry, _: &[Slice], _: f32, _: &mut [f32]) {
    none(geo)
}

/// Of none.
pub fn activations(geo: &Geometry, _: &Slice, _: usize) -> Vec<LayerActivations> {
    none(geo)
}
